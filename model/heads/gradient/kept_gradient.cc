#include "model/heads/gradient/kept_gradient.h"

#include "ops/elementwise.h"
#include "runtime/status.h"

namespace isthmus {

void KeptGradient::Place(TensorPlacer& placer) {
  const DType type = setting_.sum_type();
  rows_ = placer.Place("head.whole_gradient", type, setting_.Share(setting_.vocabulary).size(), shape_.width);
  if (shape_.has_down) down_ = placer.Place("head.whole_down_gradient", type, shape_.width, setting_.width);
}

absl::Status KeptGradient::Keep(const HeadView& head, Stream& stream) const {
  if (head.down != nullptr) ISTHMUS_RETURN_IF_ERROR(Cast({.x = head.down->gradient, .y = down_}, stream));
  return Cast({.x = head.gradient, .y = rows_}, stream);
}

absl::Status KeptGradient::Restore(const HeadView& head, Stream& stream) const {
  if (head.down != nullptr) ISTHMUS_RETURN_IF_ERROR(Cast({.x = down_, .y = head.down->gradient}, stream));
  return Cast({.x = rows_, .y = head.gradient}, stream);
}

}  // namespace isthmus
