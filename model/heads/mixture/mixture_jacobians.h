// The Jacobians of single tokens under a mixture of softmaxes (model/heads/mixture.cc).
//
//   logits of component k   ∂z_k/∂h = W diag(1 - h_k²) A_k
//   logits of the prior     ∂q/∂h = P, on the first rank
//   log-probabilities       ∂ log p(v)/∂h = Σ_k r_kv (∂ log π_k/∂h + ∂ log p_k(v)/∂h),   r_kv = π_k p_k(v) / p(v)
#ifndef ISTHMUS_MODEL_HEADS_MIXTURE_MIXTURE_JACOBIANS_H_
#define ISTHMUS_MODEL_HEADS_MIXTURE_MIXTURE_JACOBIANS_H_

#include <absl/status/status.h>

#include "model/algebra/matrix.h"
#include "model/heads/token_jacobians.h"
#include "ops/loss_form.h"
#include "parallel/communicator.h"
#include "parallel/shard.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

class MixtureJacobians : public TokenJacobians {
 public:
  // Takes `down` [K (D + 1), D], which is A above P, and W [V_i, D] of this rank's `rows`. `tensor` and `stream` must
  // outlive this object.
  MixtureJacobians(const Tensor& down, const Tensor& weight, Range rows, const LossForm& form, Communicator& tensor,
                   const Stream& stream)
      : down_(down), weight_(weight), rows_(rows), form_(form), tensor_(tensor), stream_(stream) {}

  absl::Status Visit(const PlacedTokens& tokens, const Visitor& visit) override;

 private:
  const Tensor down_, weight_;
  const Range rows_;
  const LossForm form_;
  Communicator& tensor_;
  const Stream& stream_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEADS_MIXTURE_MIXTURE_JACOBIANS_H_
