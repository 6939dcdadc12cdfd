// The Jacobians of single tokens under a head that copies earlier tokens (model/heads/copy.cc).
//
// A token's logits are all that its loss is computed from: the vocabulary's z_v, then on the first rank the slot's t, the
// sink's s_0 and the scores s_nj of the positions j <= n. The sink is a constant, whose gradient nothing can follow.
//
//   ∂z_v/∂h_n = w_v     ∂t/∂h_n = w_s     ∂s_0/∂h_n = 0
//   ∂s_nj/∂h_n = Qᵀ K h_j / √d  for j < n     ∂s_nn/∂h_n = (Qᵀ K + Kᵀ Q) h_n / √d
//
// The key of the token itself is its own, too. What later tokens pass back by that key belongs to their losses, and is
// not counted here. With the mean w̄ = Σ_u p_u w_u, the mass a_nv = Σ_j a_nj [x_j = v] on v and the share c_v of P_n(v)
// that was copied:
//
//   ∂ log P_n(v)/∂h_n = (1 − c_v) (w_v − w̄ + ∂ log (1 − σ (1 − a_n0))/∂h_n) + c_v ∂ log (σ a_nv)/∂h_n
//
// A soft cap scales w_v by its slope first.
#ifndef ISTHMUS_MODEL_HEADS_POINTER_POINTER_JACOBIANS_H_
#define ISTHMUS_MODEL_HEADS_POINTER_POINTER_JACOBIANS_H_

#include <absl/status/status.h>

#include <cstdint>

#include "model/heads/token_jacobians.h"
#include "ops/loss_form.h"
#include "parallel/communicator.h"
#include "parallel/shard.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

// The probabilities of a head that copies are made of these.
struct PointerHead {
  Tensor weight;  // W [V_i, D]
  Range rows;     // of the vocabulary in `weight`
  Tensor down;    // [2 d + 1, D]: Q above K above w_s
  Tensor sink;    // s_0 [1, 1]
  LossForm form;
  int64_t sequence_length = 0;
};

class PointerJacobians : public TokenJacobians {
 public:
  // ids: int32 [1, N] on the stream's device, those of each micro-batch that is visited. All references must outlive
  // this object.
  PointerJacobians(const PointerHead& head, const Tensor& ids, Communicator& tensor, const Stream& stream)
      : head_(head), ids_(ids), tensor_(tensor), stream_(stream) {}

  absl::Status Visit(const PlacedTokens& tokens, const Visitor& visit) override;

 private:
  const PointerHead head_;
  const Tensor& ids_;
  Communicator& tensor_;
  const Stream& stream_;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEADS_POINTER_POINTER_JACOBIANS_H_
