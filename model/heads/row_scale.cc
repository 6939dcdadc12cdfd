#include "model/heads/row_scale.h"

#include "ops/broadcast.h"
#include "ops/elementwise.h"

namespace isthmus {

RowScale::RowScale(const HeadRequest& request, int64_t width)
    : setting_(request.setting),
      width_(width),
      wanted_(request.config.head().row_scale() != 0),
      initial_(wanted_ ? PowersOfCounts(request.tables.counts, setting_.vocabulary, request.config.head().row_scale())
                       : nullptr) {}

void RowScale::Declare(ParameterBuilder& parameters) {
  parameter_ = parameters.Add({.name = "head.row_scale",
                               .role = ParameterRole::kHead,
                               .rows = setting_.vocabulary,
                               .columns = 1,
                               .sharding = Sharding::kRows,
                               .shard = setting_.Share(setting_.vocabulary),
                               .init_mean = 1,
                               .init_values = initial_,
                               .decay = false});
}

void RowScale::Place(TensorPlacer& placer) {
  const int64_t rows = setting_.Share(setting_.vocabulary).size();
  folded_.weight = placer.Place("head.scaled_rows", setting_.type, rows, width_);
  if (setting_.training) folded_.gradient = placer.Place("head.scaled_gradient", setting_.sum_type(), rows, width_);
}

void RowScale::Bind(const ParameterStore& parameters, const Linear& rows) {
  rows_ = rows;
  factors_ = parameters.Weight(parameter_);
}

absl::Status RowScale::Fold(Stream& stream) const {
  return ScaleRows({.x = rows_.weight, .factors = factors_, .y = folded_.weight}, stream);
}

absl::Status RowScale::ResetGradient(Stream& stream) const { return SetZero({.x = folded_.gradient}, stream); }

absl::Status RowScale::AddGradient(Stream& stream) const {
  return ScaleRows({.x = folded_.gradient, .factors = factors_, .y = rows_.gradient, .accumulate = true}, stream);
}

absl::Status RowScale::TakeGradient(Stream& stream) const {
  return ScaleRows({.x = rows_.gradient, .factors = factors_, .y = folded_.gradient, .inverse = true}, stream);
}

}  // namespace isthmus
