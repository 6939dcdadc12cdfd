// The probabilities of all tokens after one whose distribution mixes a softmax over the vocabulary with attention that
// points at earlier tokens (ops/pointer_loss.h), in fp64 on the host.
#ifndef ISTHMUS_MODEL_HEADS_POINTER_POINTED_PROBABILITIES_H_
#define ISTHMUS_MODEL_HEADS_POINTER_POINTED_PROBABILITIES_H_

#include <absl/status/status.h>

#include <cstdint>
#include <vector>

#include "model/algebra/matrix.h"
#include "parallel/communicator.h"
#include "parallel/shard.h"

namespace isthmus {

// One token points at this, the same on all ranks.
struct PointedTokens {
  double slot = 0, sink = 0;  // scores of the slot among the vocabulary's logits, and of the sink among the positions
  std::vector<double> scores;
  std::vector<int32_t> ids;  // by position
};

// Turns this rank's logits of the vocabulary, after a soft cap, into log P(v) of its `rows`. Collective over `tensor`.
absl::Status ToLogProbabilities(const PointedTokens& pointed, Range rows, Eigen::Ref<Eigen::RowVectorXd> logits,
                                Communicator& tensor);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEADS_POINTER_POINTED_PROBABILITIES_H_
