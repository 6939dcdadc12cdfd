// AdamW (arXiv:1711.05101), and with the largest second moment so far AMSGrad (arXiv:1904.09237).
#include "ops/adamw.h"

#include "model/train/rules/rules.h"

namespace isthmus {
namespace {

absl::Status UpdateByAdamW(const OwnedElements& owned, const UpdateNumbers& numbers, const UpdatePlace& place) {
  return AdamW({.weight = owned.weight,
                .grad = owned.gradient,
                .first_moment = owned.state[0],
                .second_moment = owned.state[1],
                .max_second_moment = owned.state.size() > 2 ? owned.state[2] : Tensor(),
                .compute_weight = owned.compute_weight,
                .learning_rate = numbers.learning_rate,
                .beta1 = numbers.beta1,
                .beta2 = numbers.beta2,
                .epsilon = numbers.epsilon,
                .weight_decay = numbers.weight_decay,
                .grad_scale = numbers.grad_scale,
                .step = numbers.step},
               place.stream);
}

}  // namespace

UpdateRule AdamWRule() {
  return {.name = "adamw", .state = {proto::FIRST_MOMENT, proto::SECOND_MOMENT}, .update = UpdateByAdamW};
}

UpdateRule AmsgradRule() {
  return {.name = "amsgrad",
          .state = {proto::FIRST_MOMENT, proto::SECOND_MOMENT, proto::MAX_SECOND_MOMENT},
          .update = UpdateByAdamW};
}

}  // namespace isthmus
