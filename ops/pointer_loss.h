// The loss of a token whose probability is mixed of a softmax over the vocabulary and of attention that points at
// earlier tokens (Merity et al. 2016, arXiv:1609.07843, eq. 2; here the gate is a class of its own beside the
// vocabulary's, and the sink's mass goes back to the vocabulary).
//
//   σ = sigmoid(slot - log_sum_exp)           the slot's share of a softmax over the vocabulary and the slot
//   a_0 = exp(sink - pointer_log_sum_exp)     the mass of the attention's sink
//   b = 1 - σ (1 - a_0)                       what the vocabulary's softmax keeps
//   P = b exp(-vocabulary_loss) + σ exp(log_match),   loss = -log P
//
// With ρ = b exp(-vocabulary_loss) / P, the vocabulary's share of P, and κ = ∂loss/∂slot, the gradient by a logit of
// the vocabulary is (ρ - κ) p_v - ρ [v = target]: its weights are τ = ρ and ε = -κ (ops/loss_form.h).
//
//   κ = ρ σ (1 - σ) (1 - a_0) / b - (1 - ρ) (1 - σ)
//   ∂loss/∂log_match = -(1 - ρ),   ∂loss/∂(log a_0) = -ρ σ a_0 / b
//
//   vocabulary_loss, log_sum_exp            [1, N]  fp32 | fp64, of CrossEntropyCombine
//   pointer_log_sum_exp, log_match          [1, N]  the same type, of PointerAttentionForward
//   slot                                    [N, 1]  the same type; any row stride
//   sink                                    [1, 1]  the same type, or bf16 with fp32
//   loss, target_weight, excess_weight      [1, N]  the same type
//   grad_log_match, grad_log_sink           [1, N]  the same type, times `scale`
//   grad_slot                               [N, 1]  dtype of sink: κ times `scale`; any row stride
//
// All but `loss` are left out together, by an undefined target_weight, where there is no backward pass. The arithmetic
// is in fp64, and by logarithms: no probability underflows. Errors: InvalidArgument when shapes or dtypes disagree.
#ifndef ISTHMUS_OPS_POINTER_LOSS_H_
#define ISTHMUS_OPS_POINTER_LOSS_H_

#include <absl/status/status.h>

#include "runtime/operator_cost.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

struct PointerLossArgs {
  ConstTensor vocabulary_loss, log_sum_exp;
  ConstTensor pointer_log_sum_exp, log_match;
  ConstTensor slot;
  ConstTensor sink;
  double scale = 1;
  Tensor loss;
  Tensor target_weight, excess_weight;
  Tensor grad_log_match, grad_log_sink;
  Tensor grad_slot;

  OperatorCost Cost() const;
};

absl::Status PointerLoss(const PointerLossArgs& args, Stream& stream);

// The implementations take checked arguments.
namespace cpu {
absl::Status PointerLoss(const PointerLossArgs& args);
}  // namespace cpu
namespace cuda {
absl::Status PointerLoss(const PointerLossArgs& args, const Context& context);
}  // namespace cuda

}  // namespace isthmus

#endif  // ISTHMUS_OPS_POINTER_LOSS_H_
