#include "model/heads/row_bias.h"

#include "ops/broadcast.h"
#include "ops/elementwise.h"
#include "ops/reductions.h"
#include "runtime/status.h"

namespace isthmus {

RowBias::RowBias(const HeadRequest& request)
    : setting_(request.setting),
      wanted_(request.config.head().bias()),
      initial_(wanted_ ? LogShares(request.tables.counts, setting_.vocabulary) : nullptr) {}

void RowBias::Declare(ParameterBuilder& parameters) {
  if (!wanted_) return;
  parameter_ = parameters.Add({.name = "head.bias",
                               .role = ParameterRole::kHead,
                               .rows = setting_.vocabulary,
                               .columns = 1,
                               .sharding = Sharding::kRows,
                               .shard = setting_.Share(setting_.vocabulary),
                               .init_values = initial_,
                               .decay = false});
}

void RowBias::Place(TensorPlacer& placer) {
  if (!wanted_ || !setting_.training) return;
  const int64_t rows = setting_.Share(setting_.vocabulary).size();
  sums_ = placer.Place("head.bias_sums", DType::kFloat64, 1, rows);
  narrow_sums_ = sums_;
  if (setting_.sum_type() != DType::kFloat64) {
    narrow_sums_ = placer.Place("head.bias_narrow_sums", setting_.sum_type(), 1, rows);
  }
}

void RowBias::Bind(const ParameterStore& parameters) {
  if (!wanted_) return;
  weight_ = parameters.Weight(parameter_);
  gradient_ = parameters.Gradient(parameter_);
}

absl::Status RowBias::Begin(Stream& stream) const {
  return wanted_ && setting_.training ? SetZero({.x = sums_}, stream) : absl::OkStatus();
}

absl::Status RowBias::AddTo(const Tensor& logits, Stream& stream) const {
  if (!wanted_) return absl::OkStatus();
  return AddRow({.x = weight_.Reshape(1, logits.columns), .y = logits}, stream);
}

absl::Status RowBias::AddChunk(const Tensor& grad_logits, Stream& stream) const {
  return wanted_ ? AddColumnSums({.x = grad_logits, .total = sums_}, stream) : absl::OkStatus();
}

absl::Status RowBias::Finish(Stream& stream) const {
  if (!wanted_) return absl::OkStatus();
  if (narrow_sums_.dtype != sums_.dtype) ISTHMUS_RETURN_IF_ERROR(Cast({.x = sums_, .y = narrow_sums_}, stream));
  return Add({.x = narrow_sums_, .y = gradient_.Reshape(1, sums_.columns)}, stream);
}

}  // namespace isthmus
