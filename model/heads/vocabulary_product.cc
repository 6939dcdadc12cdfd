#include "model/heads/vocabulary_product.h"

#include "ops/elementwise.h"
#include "runtime/status.h"

namespace isthmus {

void VocabularyProduct::Place(int64_t chunk, TensorPlacer& placer) {
  if (setting_->training && setting_->type != setting_->sum_type()) {
    wide_grad_x_ = placer.Place("head.wide_grad_input", setting_->sum_type(), chunk, width_);
  }
}

absl::Status VocabularyProduct::BackwardInput(const Tensor& grad_logits, const Tensor& grad_x, const Tensor& signal,
                                              Stream& stream) const {
  if (!wide_grad_x_.defined()) {
    ISTHMUS_RETURN_IF_ERROR(linear_.BackwardInput(grad_logits, grad_x, stream));
    return signal.defined() ? Cast({.x = grad_x, .y = signal}, stream) : absl::OkStatus();
  }
  const Tensor wide = wide_grad_x_.RowSlice(0, grad_x.rows);
  ISTHMUS_RETURN_IF_ERROR(linear_.BackwardInput(grad_logits, wide, stream));
  ISTHMUS_RETURN_IF_ERROR(Cast({.x = wide, .y = grad_x}, stream));
  return signal.defined() ? Cast({.x = wide, .y = signal}, stream) : absl::OkStatus();
}

absl::Status VocabularyProduct::Backward(const Tensor& grad_logits, const Tensor& x, const Tensor& grad_x,
                                         const Tensor& signal, Stream& stream) const {
  ISTHMUS_RETURN_IF_ERROR(BackwardInput(grad_logits, grad_x, signal, stream));
  return linear_.BackwardWeight(grad_logits, x, stream);
}

}  // namespace isthmus
