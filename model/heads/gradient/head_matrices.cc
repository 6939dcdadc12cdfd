#include "model/heads/gradient/head_matrices.h"

#include "model/algebra/host_copy.h"
#include "ops/elementwise.h"
#include "ops/matmul.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// Returns the diagonal of an fp64 matrix, as a column.
Tensor DiagonalOf(const Tensor& x) { return Tensor(x.data, x.dtype, x.rows, 1, x.row_stride + 1); }

}  // namespace

// Only N is asked of the Gram matrix, so it needs no room for E.
HeadMatrices::HeadMatrices(const HeadShape& shape, const PartSetting& setting)
    : shape_(shape), setting_(setting), gram_({.width = shape.width}, setting) {}

void HeadMatrices::Place(TensorPlacer& placer) {
  const auto square = [&](const char* name) { return placer.Place(name, DType::kFloat64, shape_.width, shape_.width); };
  gram_.Place(placer);
  if (!shape_.has_down) {
    ones_ = placer.Place("head.ones", DType::kFloat64, shape_.width, 1);
    return;
  }
  down_ = placer.Place("head.matrices.wide_down", DType::kFloat64, shape_.width, setting_.width);
  inner_ = square("head.matrices.inner");
  rows_inner_ = square("head.matrices.rows_inner");
  inner_in_rows_ = square("head.matrices.inner_in_rows");
  rows_in_inner_ = square("head.matrices.rows_in_inner");
}

absl::Status HeadMatrices::Find(const HeadView& head, const TensorRegion& region, Stream& stream) {
  ISTHMUS_ASSIGN_OR_RETURN(rows_, gram_.OfRows(head, region, stream));
  if (!shape_.has_down) return CopyToTensor(Matrix::Ones(shape_.width, 1), ones_, stream);
  ISTHMUS_RETURN_IF_ERROR(Cast({.x = head.down->weight, .y = down_}, stream));
  ISTHMUS_RETURN_IF_ERROR(Matmul({.a = down_, .b = down_, .c = inner_, .transpose_b = true}, stream));
  ISTHMUS_RETURN_IF_ERROR(Matmul({.a = rows_, .b = inner_, .c = rows_inner_}, stream));
  ISTHMUS_RETURN_IF_ERROR(Matmul({.a = rows_inner_, .b = rows_, .c = inner_in_rows_}, stream));
  return Matmul({.a = inner_, .b = rows_inner_, .c = rows_in_inner_}, stream);
}

absl::Status HeadMatrices::AddTrace(const Tensor& x, const Tensor& total, Stream& stream) const {
  if (shape_.has_down) return AddDot({.x = x, .y = inner_, .total = total}, stream);
  return AddSum({.x = DiagonalOf(x), .total = total}, stream);
}

absl::Status HeadMatrices::AddInner(double factor, const Tensor& x, Stream& stream) const {
  if (shape_.has_down) return Combine({.x = inner_, .y = x, .x_factor = factor}, stream);
  return Combine({.x = ones_, .y = DiagonalOf(x), .x_factor = factor}, stream);
}

}  // namespace isthmus
