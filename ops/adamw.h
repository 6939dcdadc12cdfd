// AdamW with decoupled weight decay (Loshchilov & Hutter 2017, arXiv:1711.05101, algorithm 2). The decay is multiplied
// by the learning rate, as in PyTorch. With a maximum it is AMSGrad (Reddi et al. 2018, arXiv:1904.09237), as PyTorch
// has it.
//
//   g     = grad * grad_scale
//   m     = beta1 m + (1 - beta1) g
//   v     = beta2 v + (1 - beta2) g²
//   w     = w - learning_rate * weight_decay * w
//             - learning_rate * (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + epsilon)
//   compute_weight = w rounded to bf16            (where given)
//
// With max_second_moment x the denominator has x in v's place, with the same correction by beta2:
//
//   x     = max(x, v)                             (NaN in either stays)
//
// The decay is added to the step before both are subtracted from w, so that w is rounded once. In fp32 a factor of 1 -
// learning_rate * weight_decay would itself be rounded to multiples of 6e-8, the size of usual decays.
//
//   weight, grad, first_moment, second_moment   [1, n]   fp32 | fp64, all the same
//   max_second_moment                           [1, n]   dtype of weight, optional
//   compute_weight                              [1, n]   bf16, optional
//
// `step` counts from 1. The operator is elementwise. The tensors do not overlap. Errors: InvalidArgument when
// shapes or dtypes disagree.
#ifndef ISTHMUS_OPS_ADAMW_H_
#define ISTHMUS_OPS_ADAMW_H_

#include <absl/status/status.h>

#include <cstdint>

#include "runtime/operator_cost.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

struct AdamWArgs {
  Tensor weight;
  ConstTensor grad;
  Tensor first_moment;
  Tensor second_moment;
  Tensor max_second_moment;  // optional
  Tensor compute_weight;     // optional
  double learning_rate = 0;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0;
  double grad_scale = 1;
  int64_t step = 1;

  OperatorCost Cost() const;
};

absl::Status AdamW(const AdamWArgs& args, Stream& stream);

// The implementations take checked arguments.
namespace cpu {
absl::Status AdamW(const AdamWArgs& args);
}  // namespace cpu
namespace cuda {
absl::Status AdamW(const AdamWArgs& args, const Context& context);
}  // namespace cuda

}  // namespace isthmus

#endif  // ISTHMUS_OPS_ADAMW_H_
