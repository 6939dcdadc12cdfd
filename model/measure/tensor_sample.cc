#include "model/measure/tensor_sample.h"

#include "model/measure/token_figures.h"

namespace isthmus {

TensorSample::TensorSample(const TensorHead& head, const TensorTokenSums& sums, int64_t tokens, const LossForm& form)
    : input_(head.Input(sums.sampled_hidden)),
      loss_(sums.sampled.figures.col(SampledTokens::kLoss).transpose()),
      log_sum_exp_(sums.sampled.figures.col(SampledTokens::kLogSumExp).transpose()),
      scale_(1.0 / static_cast<double>(tokens)),
      exponent_(head.LogitExponent()),
      form_(form) {
  for (const double target : sums.sampled.figures.col(SampledTokens::kTarget)) {
    targets_.push_back(static_cast<int32_t>(target));
  }
}

LogitGradientTokens TensorSample::In(const Range& range) const {
  return {.input = TensorOf(input_).RowSlice(range.begin, range.size()),
          .targets = ConstTensor(targets_.data(), DType::kInt32, 1, count()).ColumnSlice(range.begin, range.size()),
          .loss = TensorOf(loss_).ColumnSlice(range.begin, range.size()),
          .log_sum_exp = TensorOf(log_sum_exp_).ColumnSlice(range.begin, range.size()),
          .form = form_,
          .scale = scale_,
          .exponent = exponent_};
}

}  // namespace isthmus
