// Whether the normalisation rules of a SentencePiece model can be followed: the library trusts the table of a model
// that it loads, and reads whatever memory a damaged one points to. Models of `isthmus tokenizer train` have none.
#ifndef ISTHMUS_RUNTIME_DATA_NORMALIZATION_RULE_H_
#define ISTHMUS_RUNTIME_DATA_NORMALIZATION_RULE_H_

#include <string>
#include <string_view>

namespace isthmus {

// What is wrong with the tables of a serialized model; empty when nothing is. Of the rest of the model nothing is
// checked.
std::string CheckNormalizationRules(std::string_view serialized_model);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_DATA_NORMALIZATION_RULE_H_
