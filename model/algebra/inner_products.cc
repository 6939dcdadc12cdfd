#include "model/algebra/inner_products.h"

#include "ops/elementwise.h"
#include "ops/reductions.h"
#include "runtime/device.h"
#include "runtime/status.h"

namespace isthmus {

absl::StatusOr<Tensor> InnerProducts::Next() {
  const Tensor sum = sums_.ColumnSlice(count_++, 1);
  ISTHMUS_RETURN_IF_ERROR(SetZero({.x = sum}, stream_));
  return sum;
}

absl::Status InnerProducts::Add(const ConstTensor& x, const ConstTensor& y) {
  ISTHMUS_ASSIGN_OR_RETURN(const Tensor sum, Next());
  const Tensor dots = dots_.ColumnSlice(0, x.rows);
  ISTHMUS_RETURN_IF_ERROR(RowDots({.x = x, .y = y, .dots = dots}, stream_));
  return AddSum({.x = dots, .total = sum}, stream_);
}

absl::Status InnerProducts::AddTrace(const ConstTensor& x) {
  ISTHMUS_ASSIGN_OR_RETURN(const Tensor sum, Next());
  ConstTensor diagonal = x.ColumnSlice(0, 1);
  diagonal.row_stride = x.row_stride + 1;
  return AddSum({.x = diagonal, .total = sum}, stream_);
}

absl::Status InnerProducts::AddSquare(const ConstTensor& x) {
  ISTHMUS_ASSIGN_OR_RETURN(const Tensor sum, Next());
  return AddSumOfSquares({.x = x, .total = sum}, stream_);
}

absl::StatusOr<std::vector<double>> InnerProducts::Values() {
  std::vector<double> values(static_cast<size_t>(count_));
  ISTHMUS_RETURN_IF_ERROR(
      CopyToHost(sums_.ColumnSlice(0, count_), Tensor(values.data(), DType::kFloat64, 1, count_), stream_));
  count_ = 0;
  return values;
}

}  // namespace isthmus
