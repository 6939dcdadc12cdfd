#include "model/heads/sampled_rows.h"

#include <algorithm>

#include "ops/embedding.h"
#include "runtime/device.h"
#include "runtime/status.h"

namespace isthmus {

void SampledRows::Place(int64_t chunk, TensorPlacer& placer) {
  product_.Place(chunk, placer);
  // The targets of a step may be all rows of a rank.
  const int64_t rows = own().size();
  ids_ = placer.Place("head.classes", DType::kInt32, 1, rows);
  rows_ = placer.Place("head.sampled_rows", setting_.type, rows, setting_.width);
  gradient_ = placer.Place("head.sampled_gradient", setting_.sum_type(), rows, setting_.width);
  workspace_ = placer.Place("head.sampled_order", DType::kInt32, 1, 2 * rows);
}

absl::Status SampledRows::Gather(absl::Span<const int32_t> classes, const Linear& whole, Stream& stream) {
  const auto* first = std::lower_bound(classes.begin(), classes.end(), own().begin);
  const auto* last = std::lower_bound(first, classes.end(), own().end);
  classes_ = {first - classes.begin(), last - classes.begin()};
  ISTHMUS_RETURN_IF_ERROR(CopyFromHost(ConstTensor(first, DType::kInt32, 1, classes_.size()), ids(), stream));
  product_.Bind(rows_.RowSlice(0, classes_.size()), gradient_.RowSlice(0, classes_.size()));
  return EmbeddingForward({.ids = ids(), .table = whole.weight, .first_row = own().begin, .y = product_.weight()},
                          stream);
}

absl::Status SampledRows::AddGradient(const Linear& whole, Stream& stream) const {
  return EmbeddingBackward({.ids = ids(),
                            .grad_y = product_.gradient(),
                            .first_row = own().begin,
                            .grad_table = whole.gradient,
                            .workspace = workspace_.ColumnSlice(0, 2 * classes_.size())},
                           stream);
}

absl::Status SampledRows::TakeGradient(const Linear& whole, Stream& stream) const {
  return EmbeddingForward({.ids = ids(), .table = whole.gradient, .first_row = own().begin, .y = product_.gradient()},
                          stream);
}

}  // namespace isthmus
