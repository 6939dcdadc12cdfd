// The rules of the program. Each is one file of this folder.
#ifndef ISTHMUS_MODEL_TRAIN_RULES_RULES_H_
#define ISTHMUS_MODEL_TRAIN_RULES_RULES_H_

#include "model/train/update_rule.h"

namespace isthmus {

UpdateRule AdamWRule();
UpdateRule AmsgradRule();
UpdateRule SgdRule();
UpdateRule MuonRule();

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_TRAIN_RULES_RULES_H_
