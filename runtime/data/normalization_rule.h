// Checks that the normalisation rules of a SentencePiece model can be followed. The library trusts the table of a model
// that it loads: a damaged table makes it read memory anywhere. Models of `isthmus tokenizer train` have no such table.
#ifndef ISTHMUS_RUNTIME_DATA_NORMALIZATION_RULE_H_
#define ISTHMUS_RUNTIME_DATA_NORMALIZATION_RULE_H_

#include <string>
#include <string_view>

namespace isthmus {

// Returns why the tables of a serialized model can't be trusted, or an empty string. One may be damaged. Or the model
// can't be read to its end to find them. Nothing else of the model is checked.
std::string CheckNormalizationRules(std::string_view serialized_model);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_DATA_NORMALIZATION_RULE_H_
