#include "model/measure/sampled_gradient.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "model/algebra/host_copy.h"
#include "model/algebra/inner_products.h"
#include "model/measure/logit_gradient.h"
#include "model/measure/mesh_sum.h"
#include "model/measure/token_sample.h"
#include "ops/elementwise.h"
#include "ops/future_targets.h"
#include "ops/matmul.h"
#include "ops/reductions.h"
#include "runtime/device.h"
#include "runtime/status.h"

namespace isthmus {

absl::Status SampledGradient::Place(int64_t stride, int64_t count) {
  const Matrix placed = sampled_.figures(Eigen::seqN(0, count, stride), Eigen::all);
  const auto place = [&](SampledTokens::Figure figure, const Tensor& tensor) {
    return CopyToTensor(placed.col(figure).transpose(), tensor.ColumnSlice(0, count), stream_);
  };
  ISTHMUS_RETURN_IF_ERROR(place(SampledTokens::kLoss, memory_.sample.loss));
  ISTHMUS_RETURN_IF_ERROR(place(SampledTokens::kLogSumExp, memory_.sample.log_sum_exp));
  std::vector<int32_t> ids;
  for (int64_t k = 0; k <= offsets(); ++k) {
    const int64_t column = k == 0 ? int64_t{SampledTokens::kTarget} : SampledTokens::kFigures + k - 1;
    for (int64_t i = 0; i < count; ++i) ids.push_back(static_cast<int32_t>(placed(i, column)));
  }
  ISTHMUS_RETURN_IF_ERROR(
      CopyFromHost(Tensor(ids.data(), DType::kInt32, 1 + offsets(), count), Targets(count), stream_));
  return offsets() > 0 ? PlaceLater(ids, count) : absl::OkStatus();
}

absl::Status SampledGradient::PlaceLater(const std::vector<int32_t>& targets, int64_t count) {
  Matrix weights(2, count);
  for (int64_t n = 0; n < count; ++n) {
    const FutureTargetsOfToken of_token = {targets.data() + n, count, sampled_.future_weights.data(),
                                           static_cast<int>(offsets())};
    const TokenWeights at_first = of_token.Of(of_token.target(0));
    weights.col(n) << at_first.target, at_first.excess;
  }
  ISTHMUS_RETURN_IF_ERROR(CopyToTensor(weights.row(0), memory_.sample.target_weight.ColumnSlice(0, count), stream_));
  ISTHMUS_RETURN_IF_ERROR(CopyToTensor(weights.row(1), memory_.sample.excess_weight.ColumnSlice(0, count), stream_));
  return CopyFromHost(ConstTensor(sampled_.future_weights.data(), DType::kFloat64, 1, offsets()),
                      memory_.sample.future_weights, stream_);
}

absl::Status SampledGradient::Form(const Tensor& input, Range rows, const Tensor& gradient) {
  const int64_t count = input.rows;
  LaterTargets later;
  if (offsets() > 0) {
    later = {.targets = Targets(count),
             .weights = memory_.sample.future_weights,
             .target_weight = memory_.sample.target_weight.ColumnSlice(0, count),
             .excess_weight = memory_.sample.excess_weight.ColumnSlice(0, count),
             .target_logits = memory_.sample.target_logits.RowSlice(0, count)};
  }
  return FormLogitGradient({.input = input,
                            .targets = Targets(count).RowSlice(0, 1),
                            .loss = memory_.sample.loss.ColumnSlice(0, count),
                            .log_sum_exp = memory_.sample.log_sum_exp.ColumnSlice(0, count),
                            .later = later,
                            .form = shape_.form},
                           rows_.Slice(rows.begin, rows.size()), first_row_ + rows.begin, gradient, stream_);
}

absl::StatusOr<Matrix> SampledGradient::Gram() {
  const int64_t count = input_.rows;
  ISTHMUS_RETURN_IF_ERROR(Place(1, count));
  const Tensor gram(memory_.sample.gram.data, memory_.sample.gram.dtype, count, count);
  ISTHMUS_RETURN_IF_ERROR(SetZero({.x = gram}, stream_));
  for (int64_t row = 0; row < rows_.weight.rows; row += shape_.row_block()) {
    const Range rows = {row, std::min(row + shape_.row_block(), rows_.weight.rows)};
    const Tensor gradient = memory_.sample.logits.RowSlice(0, count).ColumnSlice(0, rows.size());
    ISTHMUS_RETURN_IF_ERROR(Form(input_, rows, gradient));
    ISTHMUS_RETURN_IF_ERROR(
        Matmul({.a = gradient, .b = gradient, .c = gram, .transpose_b = true, .accumulate = true}, stream_));
  }
  ISTHMUS_RETURN_IF_ERROR(SumOverMesh(gram, mesh_));
  if (stream_.dry()) return Matrix();  // a large sample's would take gigabytes
  return HostCopy(gram, stream_);
}

template <typename Use>
absl::Status SampledGradient::ForEachWideBlock(const Tensor& input, const Use& use) {
  for (int64_t row = 0; row < rows_.weight.rows; row += shape_.wide_rows()) {
    const ConstTensor rows = rows_.weight.RowSlice(row, std::min(shape_.wide_rows(), rows_.weight.rows - row));
    const Tensor gradient = memory_.sample.logits.RowSlice(0, input.rows).ColumnSlice(0, rows.rows);
    ISTHMUS_RETURN_IF_ERROR(Form(input, {row, row + rows.rows}, gradient));
    if (!memory_.sample.tested_gradient.defined()) {
      ISTHMUS_RETURN_IF_ERROR(use(gradient, rows));
      continue;
    }
    const Tensor wide = memory_.sample.tested_gradient.RowSlice(0, input.rows).ColumnSlice(0, rows.rows);
    const Tensor wide_rows = memory_.head.wide_rows.RowSlice(0, rows.rows);
    ISTHMUS_RETURN_IF_ERROR(Cast({.x = gradient, .y = wide}, stream_));
    ISTHMUS_RETURN_IF_ERROR(Cast({.x = rows, .y = wide_rows}, stream_));
    ISTHMUS_RETURN_IF_ERROR(use(wide, wide_rows));
  }
  return absl::OkStatus();
}

absl::StatusOr<double> SampledGradient::PassedOn(const Tensor& lost_signal) {
  // ‖WᵀW‖ is at least s₁², and at most √rank(W) times that. For W = U E it is the root of tr((M E Eᵀ)²).
  InnerProducts products(memory_.update.dots, memory_.update.sums, stream_);
  Tensor passed_on = lost_signal;
  if (shape_.has_down) {
    const Tensor &square = memory_.head.first_square, &fourth_power = memory_.head.second_square;
    ISTHMUS_RETURN_IF_ERROR(Matmul({.a = memory_.head.gram, .b = memory_.update.down_gram, .c = square}, stream_));
    ISTHMUS_RETURN_IF_ERROR(Matmul({.a = square, .b = square, .c = fourth_power}, stream_));
    ISTHMUS_RETURN_IF_ERROR(products.AddTrace(fourth_power));
    passed_on = memory_.sample.tested_passed_on.RowSlice(0, lost_signal.rows);
    ISTHMUS_RETURN_IF_ERROR(Matmul({.a = lost_signal, .b = memory_.head.down, .c = passed_on}, stream_));
  } else {
    ISTHMUS_RETURN_IF_ERROR(products.AddSquare(memory_.head.gram));
  }
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<double> values, products.Values());
  const double square_of_largest = std::sqrt(values.front());
  if (!(square_of_largest > 0)) return 0.0;
  ISTHMUS_ASSIGN_OR_RETURN(const Matrix found, HostCopy(passed_on, stream_));
  return (found / std::sqrt(square_of_largest)).squaredNorm();
}

absl::StatusOr<SampledGradient::Energies> SampledGradient::Test() {
  const TokenSample tested = TokenSample::Of(input_.rows, MeasurementShape::kMostTested);
  ISTHMUS_RETURN_IF_ERROR(Place(tested.stride, tested.count));
  Tensor input = input_;
  input.rows = tested.count;
  input.row_stride *= tested.stride;
  const Tensor signal = memory_.sample.tested_signal.RowSlice(0, tested.count);
  const Tensor projected = memory_.sample.tested_projected.RowSlice(0, tested.count);
  const Tensor sums = memory_.update.sums.ColumnSlice(0, 2);
  for (const Tensor& sum : {signal, sums}) ISTHMUS_RETURN_IF_ERROR(SetZero({.x = sum}, stream_));
  const auto add_signal = [&](const Tensor& gradient, const ConstTensor& rows) -> absl::Status {
    ISTHMUS_RETURN_IF_ERROR(AddSumOfSquares({.x = gradient, .total = sums.ColumnSlice(0, 1)}, stream_));
    return Matmul({.a = gradient, .b = rows, .c = signal, .accumulate = true}, stream_);
  };
  ISTHMUS_RETURN_IF_ERROR(ForEachWideBlock(input, add_signal));
  ISTHMUS_RETURN_IF_ERROR(SumOverMesh(signal, mesh_));
  const Tensor& projector = memory_.head.wide_projector;
  ISTHMUS_RETURN_IF_ERROR(Matmul({.a = signal, .b = projector, .c = projected}, stream_));
  ISTHMUS_ASSIGN_OR_RETURN(const Matrix kept, HostCopy(projected, stream_));
  ISTHMUS_RETURN_IF_ERROR(CopyToTensor(-kept, projected, stream_));
  const Tensor& coefficients = signal;  // factors of the rows of U, negative: -F Pᵀ
  ISTHMUS_RETURN_IF_ERROR(Matmul({.a = projected, .b = projector, .c = coefficients, .transpose_b = true}, stream_));
  const Tensor& lost_signal = projected;  // (G - G_∥) U
  ISTHMUS_RETURN_IF_ERROR(SetZero({.x = lost_signal}, stream_));
  const auto add_lost = [&](const Tensor& gradient, const ConstTensor& rows) -> absl::Status {
    ISTHMUS_RETURN_IF_ERROR(
        Matmul({.a = coefficients, .b = rows, .c = gradient, .transpose_b = true, .accumulate = true}, stream_));
    ISTHMUS_RETURN_IF_ERROR(AddSumOfSquares({.x = gradient, .total = sums.ColumnSlice(1, 1)}, stream_));
    return Matmul({.a = gradient, .b = rows, .c = lost_signal, .accumulate = true}, stream_);
  };
  ISTHMUS_RETURN_IF_ERROR(ForEachWideBlock(input, add_lost));
  ISTHMUS_RETURN_IF_ERROR(SumOverMesh(lost_signal, mesh_));
  ISTHMUS_RETURN_IF_ERROR(SumOverMesh(sums, mesh_));
  ISTHMUS_ASSIGN_OR_RETURN(const Matrix found, HostCopy(sums, stream_));
  ISTHMUS_ASSIGN_OR_RETURN(const double passed_on, PassedOn(lost_signal));
  return Energies{
      .energy = found(0, 0),
      .lost = found(0, 1),
      .lost_passed_on = passed_on,
      .retained = sampled_.figures.col(SampledTokens::kRetained)(Eigen::seqN(0, tested.count, tested.stride)).sum()};
}

}  // namespace isthmus
