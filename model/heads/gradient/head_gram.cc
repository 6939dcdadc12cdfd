#include "model/heads/gradient/head_gram.h"

#include "ops/elementwise.h"
#include "ops/gram.h"
#include "ops/matmul.h"
#include "runtime/status.h"

namespace isthmus {

void HeadGram::Place(TensorPlacer& placer) {
  gram_ = placer.Place("head.gram", DType::kFloat64, width_, width_);
  if (type_ != DType::kFloat64) workspace_ = placer.Place("head.gram_block", DType::kFloat32, width_, width_);
  if (!has_down_) return;
  down_ = placer.Place("head.wide_down", DType::kFloat64, width_, hidden_width_);
  product_ = placer.Place("head.gram_down", DType::kFloat64, width_, hidden_width_);
  hidden_gram_ = placer.Place("head.hidden_gram", DType::kFloat64, hidden_width_, hidden_width_);
}

absl::StatusOr<Tensor> HeadGram::OfRows(const HeadView& head, const TensorRegion& region, Stream& stream) const {
  ISTHMUS_RETURN_IF_ERROR(SetZero({.x = gram_}, stream));
  ISTHMUS_RETURN_IF_ERROR(Gram({.x = head.weight, .y = head.weight, .c = gram_, .workspace = workspace_}, stream));
  if (region.tensor().size() > 1) {
    ISTHMUS_RETURN_IF_ERROR(region.tensor().AllReduce(gram_.Reshape(1, gram_.size())));
  }
  return gram_;
}

absl::StatusOr<Tensor> HeadGram::OfHidden(const HeadView& head, const TensorRegion& region, Stream& stream) const {
  ISTHMUS_ASSIGN_OR_RETURN(const Tensor gram, OfRows(head, region, stream));
  if (!has_down_) return gram;
  ISTHMUS_RETURN_IF_ERROR(Cast({.x = head.down->weight, .y = down_}, stream));
  ISTHMUS_RETURN_IF_ERROR(Matmul({.a = gram, .b = down_, .c = product_}, stream));
  ISTHMUS_RETURN_IF_ERROR(Matmul({.a = down_, .b = product_, .c = hidden_gram_, .transpose_a = true}, stream));
  return hidden_gram_;
}

}  // namespace isthmus
