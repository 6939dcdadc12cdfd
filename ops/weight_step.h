// A step of an optimizer along a given direction, with decoupled weight decay (Loshchilov & Hutter 2017,
// arXiv:1711.05101). The decay is multiplied by the learning rate, as in PyTorch.
//
//   w = w - learning_rate * (scale * direction + weight_decay * w)
//   compute_weight = w rounded to bf16            (where given)
//
// The decay is added to the step before both are subtracted from w, so that w is rounded once. In fp32 a factor of 1 -
// learning_rate * weight_decay would itself be rounded to multiples of 6e-8, the size of usual decays.
//
//   weight           [1, n]   fp32 | fp64
//   direction        [1, n]   dtype of weight
//   compute_weight   [1, n]   bf16, optional
//
// The three numbers are rounded to the dtype of weight. The operator is elementwise and deterministic. The tensors do
// not overlap. Errors: InvalidArgument when shapes or dtypes disagree.
#ifndef ISTHMUS_OPS_WEIGHT_STEP_H_
#define ISTHMUS_OPS_WEIGHT_STEP_H_

#include <absl/status/status.h>

#include "runtime/operator_cost.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

struct WeightStepArgs {
  Tensor weight;
  ConstTensor direction;
  Tensor compute_weight;  // optional
  double learning_rate = 0;
  double scale = 1;
  double weight_decay = 0;

  OperatorCost Cost() const;
};

absl::Status WeightStep(const WeightStepArgs& args, Stream& stream);

// The implementations take checked arguments.
namespace cpu {
absl::Status WeightStep(const WeightStepArgs& args);
}  // namespace cpu
namespace cuda {
absl::Status WeightStep(const WeightStepArgs& args, const Context& context);
}  // namespace cuda

}  // namespace isthmus

#endif  // ISTHMUS_OPS_WEIGHT_STEP_H_
