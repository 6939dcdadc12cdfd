// Checks that the normalisation rules of a SentencePiece model can be followed. The library trusts the table of a model
// that it loads: a damaged table makes it read memory anywhere. Models of `isthmus tokenizer train` have no such table.
#ifndef ISTHMUS_RUNTIME_DATA_NORMALIZATION_RULE_H_
#define ISTHMUS_RUNTIME_DATA_NORMALIZATION_RULE_H_

#include <string>
#include <string_view>

namespace isthmus {

// Returns what is wrong with the tables of a serialized model, or an empty string. The rest of the model is not
// checked.
std::string CheckNormalizationRules(std::string_view serialized_model);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_DATA_NORMALIZATION_RULE_H_
