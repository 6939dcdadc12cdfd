// The loss of a mixture of K softmaxes (Yang et al. 2018, arXiv:1711.03953, eq. 3), from those of its components. With
// π_n = softmax(prior_logits[n]) and l_kn = component_loss[0, k N + n], which is -log of component k's probability of
// token n's target:
//
//   loss[n]             = -log Σ_k π_nk exp(-l_kn)
//   posterior[0, kN+n]  = γ_nk = π_nk exp(loss[n] - l_kn)
//   grad_prior[n, k]    = scale (π_nk - γ_nk)
//   energy[i, n]        = Σ_k γ_nk² component_energy[i, k N + n]
//
// The gradient of token n's loss by the logits of component k is γ_nk (p_k - onehot(y)), so that its part of shard i
// has the squared norm energy[i, n] over all components, where component_energy is CrossEntropyCombine's.
//
//   prior_logits                [N, K]    fp32 | fp64, any row stride
//   component_loss, posterior   [1, K·N]  dtype of prior_logits: all tokens of component 0, then of component 1, …
//   component_energy            [P, K·N]  fp64, of P shards
//   loss                        [1, N]    dtype of prior_logits
//   energy                      [P, N]    fp64
//   grad_prior                  [N, K]    dtype of prior_logits, or bf16 from fp32; any row stride; optional
//
// Sums are in fp64, in the order of the components. If no component can have the target, loss and posterior are NaN.
// Errors: InvalidArgument when shapes or dtypes disagree.
#ifndef ISTHMUS_OPS_MIXTURE_LOSS_H_
#define ISTHMUS_OPS_MIXTURE_LOSS_H_

#include <absl/status/status.h>

#include "runtime/operator_cost.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

struct MixtureLossArgs {
  ConstTensor prior_logits;
  ConstTensor component_loss;
  ConstTensor component_energy;
  double scale = 1;
  Tensor loss;
  Tensor posterior;
  Tensor energy;
  Tensor grad_prior;

  OperatorCost Cost() const;
};

absl::Status MixtureLoss(const MixtureLossArgs& args, Stream& stream);

// The implementations take checked arguments.
namespace cpu {
absl::Status MixtureLoss(const MixtureLossArgs& args);
}  // namespace cpu
namespace cuda {
absl::Status MixtureLoss(const MixtureLossArgs& args, const Context& context);
}  // namespace cuda

}  // namespace isthmus

#endif  // ISTHMUS_OPS_MIXTURE_LOSS_H_
