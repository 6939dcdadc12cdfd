#include "model/heads/levels/packed_levels.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "ops/elementwise.h"
#include "ops/embedding.h"
#include "runtime/device.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// So many rows of the gradient are put in their places at once.
constexpr int64_t kRowsAtOnce = 1024;

}  // namespace

void PackedLevels::Place(int64_t chunk, TensorPlacer& placer) {
  const int64_t tokens = levels_.own_tokens().size(), rows = levels_.own_clusters().size() + tokens;
  product_.Place(chunk, placer);
  packed_ = placer.Place("head.packed", setting_.type, rows, setting_.width);
  row_ids_ = placer.Place("head.packed_ids", DType::kInt32, 1, tokens);
  if (!setting_.training) return;
  packed_gradient_ = placer.Place("head.packed_gradient", setting_.sum_type(), rows, setting_.width);
  row_places_ = placer.Place("head.packed_places", DType::kInt32, 1, tokens);
  found_gradient_ =
      placer.Place("head.found_gradient", setting_.sum_type(), std::min(kRowsAtOnce, tokens), setting_.width);
}

void PackedLevels::Bind(const Linear& clusters, const Linear& tokens, Stream& stream) {
  clusters_ = clusters;
  tokens_ = tokens;
  stream_ = &stream;
  has_order_ = false;
}

Range PackedLevels::members(int64_t cluster) const {
  const int64_t offset = levels_.own_clusters().size();
  const Range rows = levels_.rows_of(cluster);
  return {offset + rows.begin, offset + rows.end};
}

Tensor PackedLevels::TokensOf(const Tensor& packed) const {
  return packed.RowSlice(levels_.own_clusters().size(), levels_.own_tokens().size());
}

absl::Status PackedLevels::Pack() {
  if (!has_order_) ISTHMUS_RETURN_IF_ERROR(PlaceOrder());
  has_order_ = true;
  const int64_t own_clusters = clusters().size();
  if (own_clusters > 0) {
    ISTHMUS_RETURN_IF_ERROR(Cast({.x = clusters_.weight, .y = packed_.RowSlice(0, own_clusters)}, *stream_));
  }
  return EmbeddingForward(
      {.ids = row_ids_, .table = tokens_.weight, .first_row = levels_.own_tokens().begin, .y = TokensOf(packed_)},
      *stream_);
}

absl::Status PackedLevels::PlaceOrder() {
  const Range own = levels_.own_tokens();
  const std::vector<int32_t>& ids = levels_.rows();
  ISTHMUS_RETURN_IF_ERROR(CopyFromHost(ConstTensor(ids.data(), DType::kInt32, 1, own.size()), row_ids_, *stream_));
  if (!row_places_.defined()) return absl::OkStatus();
  std::vector<int32_t> places(ids.size());
  for (size_t i = 0; i < ids.size(); ++i) places[static_cast<size_t>(ids[i] - own.begin)] = static_cast<int32_t>(i);
  return CopyFromHost(ConstTensor(places.data(), DType::kInt32, 1, own.size()), row_places_, *stream_);
}

absl::Status PackedLevels::Forward(Range rows, const Tensor& x, const Tensor& logits) const {
  if (rows.size() == 0) return absl::OkStatus();
  return Linear{packed_.RowSlice(rows.begin, rows.size()), Tensor()}.Forward(x, logits, *stream_);
}

absl::Status PackedLevels::Backward(Range rows, const Tensor& grad_logits, const Tensor& x, const Tensor& grad_x) {
  if (rows.size() == 0) return SetZero({.x = grad_x}, *stream_);
  product_.Bind(packed_.RowSlice(rows.begin, rows.size()), packed_gradient_.RowSlice(rows.begin, rows.size()));
  return product_.Backward(grad_logits, x, grad_x, Tensor(), *stream_);
}

absl::Status PackedLevels::ResetGradient() { return SetZero({.x = packed_gradient_}, *stream_); }

absl::Status PackedLevels::AddGradient() {
  const int64_t own_clusters = clusters().size();
  if (own_clusters > 0) {
    ISTHMUS_RETURN_IF_ERROR(Add({.x = packed_gradient_.RowSlice(0, own_clusters), .y = clusters_.gradient}, *stream_));
  }
  // Each row has one place, so that nothing has to be searched.
  const Tensor& all = tokens_.gradient;
  for (int64_t begin = 0; begin < all.rows; begin += kRowsAtOnce) {
    const int64_t count = std::min(kRowsAtOnce, all.rows - begin);
    const Tensor found = found_gradient_.RowSlice(0, count);
    ISTHMUS_RETURN_IF_ERROR(EmbeddingForward(
        {.ids = row_places_.ColumnSlice(begin, count), .table = TokensOf(packed_gradient_), .y = found}, *stream_));
    ISTHMUS_RETURN_IF_ERROR(Add({.x = found, .y = all.RowSlice(begin, count)}, *stream_));
  }
  return absl::OkStatus();
}

}  // namespace isthmus
