// The probabilities of all tokens under a softmax in two levels.
#ifndef ISTHMUS_MODEL_HEADS_LEVELS_LEVEL_PROBABILITIES_H_
#define ISTHMUS_MODEL_HEADS_LEVELS_LEVEL_PROBABILITIES_H_

#include <absl/status/status.h>

#include "model/algebra/matrix.h"
#include "model/heads/levels/two_levels.h"
#include "parallel/communicator.h"

namespace isthmus {

// Turns the logits [n, V_i] of this rank's tokens, in the order of the vocabulary, into their log-probabilities.
// cluster_logits [n, C_i] are those of this rank's clusters. Works on the host. Collective over the tensor group.
absl::Status ToLogProbabilities(const TwoLevels& levels, const Matrix& cluster_logits, Matrix& logits,
                                Communicator& tensor);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEADS_LEVELS_LEVEL_PROBABILITIES_H_
