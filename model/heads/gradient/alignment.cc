#include "model/heads/gradient/alignment.h"

#include <absl/types/span.h>

#include <cmath>

#include "ops/elementwise.h"
#include "ops/gram.h"
#include "ops/matmul.h"
#include "runtime/device.h"
#include "runtime/status.h"

namespace isthmus {

void Alignment::Place(int64_t chunk, TensorPlacer& placer) {
  const int64_t width = shape_.width;
  const DType type = setting_.sum_type();
  const auto square = [&](const char* name, DType dtype) { return placer.Place(name, dtype, width, width); };
  signal_ = placer.Place("head.alignment.signal", type, chunk, width);
  narrow_signal_ = type == setting_.type ? signal_ : placer.Place("head.alignment.narrow", setting_.type, chunk, width);
  product_ = placer.Place("head.alignment.product", type, setting_.Share(setting_.vocabulary).size(), width);
  gram_ = square("head.alignment.gram", DType::kFloat64);
  if (type != DType::kFloat64) workspace_ = square("head.alignment.gram_block", DType::kFloat32);
  factor_ = square("head.alignment.factor", DType::kFloat64);
  narrow_factor_ = square("head.alignment.narrow_factor", type);
  if (shape_.has_down) {
    left_ = square("head.alignment.left", DType::kFloat64);
    right_ = square("head.alignment.right", DType::kFloat64);
  }
  sums_ = placer.Place("head.alignment.sums", DType::kFloat64, 1, 2);
}

absl::Status Alignment::BeginStep(Stream& stream) const {
  ISTHMUS_RETURN_IF_ERROR(SetZero({.x = product_}, stream));
  return SetZero({.x = gram_}, stream);
}

absl::Status Alignment::AddChunk(const Tensor& grad_logits, const Tensor& signal, const TensorRegion& region,
                                 Stream& stream) const {
  const Tensor whole = narrow_signal_.RowSlice(0, grad_logits.rows);
  if (signal.dtype != whole.dtype) ISTHMUS_RETURN_IF_ERROR(Cast({.x = signal, .y = whole}, stream));
  if (region.tensor().size() > 1) ISTHMUS_RETURN_IF_ERROR(region.tensor().AllReduce(whole));
  ISTHMUS_RETURN_IF_ERROR(Gram({.x = whole, .y = whole, .c = gram_, .workspace = workspace_}, stream));
  return Matmul({.a = grad_logits, .b = whole, .c = product_, .transpose_a = true, .accumulate = true}, stream);
}

absl::StatusOr<double> Alignment::AddGradient(const HeadView& head, const HeadMatrices& matrices, double energy,
                                              const HeadTerms& terms, const TensorRegion& region,
                                              Stream& stream) const {
  if (region.data().size() > 1) {
    ISTHMUS_RETURN_IF_ERROR(region.data().AllReduce(product_.Reshape(1, product_.size())));
    ISTHMUS_RETURN_IF_ERROR(region.data().AllReduce(gram_.Reshape(1, gram_.size())));
    ISTHMUS_RETURN_IF_ERROR(region.data().AllReduceNumbers(absl::MakeSpan(&energy, 1)));
  }
  ISTHMUS_RETURN_IF_ERROR(SetZero({.x = sums_}, stream));
  ISTHMUS_RETURN_IF_ERROR(matrices.AddTrace(gram_, sums_.ColumnSlice(0, 1), stream));
  ISTHMUS_RETURN_IF_ERROR(
      AddDot({.x = gram_, .y = matrices.rows_in_inner(), .total = sums_.ColumnSlice(1, 1)}, stream));
  double sums[2] = {};
  ISTHMUS_RETURN_IF_ERROR(CopyToHost(sums_, Tensor(sums, DType::kFloat64, 1, 2), stream));
  const auto [squares, moved] = sums;  // a, t
  // All steps call the same operators, so that a plan knows them.
  const bool sound = squares > 0 && moved > 0 && energy > 0;
  const double scaled = sound ? weight_ * squares / (std::sqrt(energy) * std::sqrt(moved)) : 0;  // λ c
  const double of_squares = sound ? -2 * scaled / squares : 0, of_product = sound ? scaled / moved : 0;
  ISTHMUS_RETURN_IF_ERROR(AddTerms(matrices, of_squares, of_product, terms, stream));
  ISTHMUS_RETURN_IF_ERROR(
      Combine({.x = matrices.rows_in_inner(), .y = factor_, .x_factor = of_product, .y_factor = 0}, stream));
  ISTHMUS_RETURN_IF_ERROR(matrices.AddInner(of_squares, factor_, stream));
  ISTHMUS_RETURN_IF_ERROR(Cast({.x = factor_, .y = narrow_factor_}, stream));
  ISTHMUS_RETURN_IF_ERROR(Matmul({.a = product_, .b = narrow_factor_, .c = head.gradient, .accumulate = true}, stream));
  return -scaled;
}

absl::Status Alignment::AddTerms(const HeadMatrices& matrices, double of_squares, double of_product,
                                 const HeadTerms& terms, Stream& stream) const {
  if (!matrices.has_down()) return Combine({.x = gram_, .y = terms.rows, .x_factor = of_product}, stream);
  ISTHMUS_RETURN_IF_ERROR(Matmul({.a = gram_, .b = matrices.inner(), .c = left_}, stream));
  ISTHMUS_RETURN_IF_ERROR(Matmul({.a = matrices.inner(), .b = left_, .c = right_}, stream));
  ISTHMUS_RETURN_IF_ERROR(Combine({.x = right_, .y = terms.rows, .x_factor = of_product}, stream));
  // S F N is the transpose of N F S.
  ISTHMUS_RETURN_IF_ERROR(Matmul({.a = matrices.rows_inner(), .b = gram_, .c = left_}, stream));
  ISTHMUS_RETURN_IF_ERROR(
      Matmul({.a = gram_, .b = matrices.rows_inner(), .c = left_, .transpose_b = true, .accumulate = true}, stream));
  ISTHMUS_RETURN_IF_ERROR(Combine({.x = left_, .y = terms.down, .x_factor = of_product}, stream));
  return Combine({.x = gram_, .y = terms.down, .x_factor = of_squares}, stream);
}

double Alignment::FlopsPerToken() const {
  const auto rank = static_cast<double>(shape_.width);
  return 2 * rank * (static_cast<double>(setting_.vocabulary) + rank);
}

}  // namespace isthmus
