// Stochastic gradient descent with momentum (Polyak 1964; PyTorch's SGD without dampening): m = β₁ m + g, w = w − η m.
// Weight decay is decoupled, as AdamW's is.
#include "model/train/rules/rules.h"
#include "ops/elementwise.h"
#include "ops/weight_step.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

absl::Status UpdateBySgd(const OwnedElements& owned, const UpdateNumbers& numbers, const UpdatePlace& place) {
  const Tensor& momentum = owned.state[0];
  ISTHMUS_RETURN_IF_ERROR(Combine(
      {.x = owned.gradient, .y = momentum, .x_factor = numbers.grad_scale, .y_factor = numbers.beta1}, place.stream));
  return WeightStep({.weight = owned.weight,
                     .direction = momentum,
                     .compute_weight = owned.compute_weight,
                     .learning_rate = numbers.learning_rate,
                     .weight_decay = numbers.weight_decay},
                    place.stream);
}

}  // namespace

UpdateRule SgdRule() { return {.name = "sgd", .state = {proto::FIRST_MOMENT}, .update = UpdateBySgd}; }

}  // namespace isthmus
