// The probabilities of all tokens under a mixture of softmaxes.
#ifndef ISTHMUS_MODEL_HEADS_MIXTURE_MIXED_PROBABILITIES_H_
#define ISTHMUS_MODEL_HEADS_MIXTURE_MIXED_PROBABILITIES_H_

#include <absl/status/status.h>

#include "model/algebra/matrix.h"
#include "parallel/communicator.h"

namespace isthmus {

// Adds component after component to the log-probabilities of some tokens. It works on the host.
class MixedProbabilities {
 public:
  // prior_logits [n, K].
  explicit MixedProbabilities(const Matrix& prior_logits);

  // Adds component `k`, from its logits [n, V_i] of this rank's tokens. Collective over the tensor group.
  absl::Status Add(Eigen::Index k, const Matrix& logits, Communicator& tensor);
  // Returns log Σ_k π_k p_k(v) [n, V_i], of the components that were added.
  const Matrix& logs() const { return logs_; }

 private:
  Matrix log_priors_, logs_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEADS_MIXTURE_MIXED_PROBABILITIES_H_
