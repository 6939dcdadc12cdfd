#include "model/measure/layer_measurement.h"

#include <algorithm>
#include <cmath>

#include "model/algebra/host_copy.h"
#include "model/measure/head_sums.h"
#include "model/measure/mesh_sum.h"
#include "model/measure/token_sample.h"
#include "ops/broadcast.h"
#include "ops/elementwise.h"
#include "ops/reductions.h"
#include "runtime/device.h"
#include "runtime/status.h"
#include "runtime/trace_range.h"
#include "runtime/work_recorder.h"

namespace isthmus {
namespace {

// Rows whose deviations from the mean are below this share of it are alike, except for rounding.
constexpr double kLeastDeviation = 1e-12;

}  // namespace

absl::Status LayerMeasurement::Begin(int64_t local_tokens) {
  tokens_ = local_tokens * mesh_.data_ranks();
  for (const Tensor& sum : {memory_.gradient_squares, memory_.sums, memory_.stream.sampled}) {
    ISTHMUS_RETURN_IF_ERROR(SetZero({.x = sum}, stream_));
  }
  return PlaceSample(local_tokens);
}

absl::Status LayerMeasurement::PlaceSample(int64_t local_tokens) {
  const int64_t micro_batches = local_tokens / shape_.tokens, room = memory_.stream.positions.columns;
  if (stream_.dry()) {
    const int64_t bytes = micro_batches * room * SizeOf(DType::kInt32);
    placed_ = Tensor(stream_.recorder()->Addresses(bytes), DType::kInt32, micro_batches, room);
  } else {
    ISTHMUS_ASSIGN_OR_RETURN(placed_, positions_.Room(DType::kInt32, micro_batches, room, stream_));
    std::fill_n(placed_.As<int32_t>(), placed_.size(), -1);
  }
  const TokenSample sample = TokenSample::Of(tokens_, shape_.stream_sampled());
  const int64_t count = shape_.stream_tokens();
  const int64_t skipped = shape_.sequence_parallel ? mesh_.tensor_rank() * count : 0;
  own_sample_ = 0;
  for (int64_t index = 0; index < micro_batches; ++index) {
    const int64_t first = local_tokens * mesh_.data_rank() + index * shape_.tokens + skipped;
    const TokenSample::Part part = sample.In(first, count);
    for (int64_t i = 0; i < part.count && !stream_.dry(); ++i) {
      placed_.Row<int32_t>(index)[own_sample_ + i] = static_cast<int32_t>(part.offset + i * sample.stride);
    }
    own_sample_ += part.count;
  }
  return absl::OkStatus();
}

absl::Status LayerMeasurement::BeginMicroBatch(int64_t index) {
  return StartCopyFromHost(placed_.RowSlice(index, 1), memory_.stream.positions, stream_);
}

absl::Status LayerMeasurement::Reduce(const Tensor& sums) {
  return shape_.sequence_parallel ? SumOverMesh(sums, mesh_) : mesh_.data().AllReduce(sums);
}

absl::Status LayerMeasurement::AddCentred(int64_t place) {
  if (own_sample_ == 0) return absl::OkStatus();
  const StreamObservation& observed = memory_.stream;
  const Tensor rows = memory_.centred_rows.RowSlice(0, own_sample_);
  const Tensor sampled = observed.sampled.RowSlice(place * observed.found.rows, own_sample_);
  ISTHMUS_RETURN_IF_ERROR(Cast({.x = sampled, .y = rows}, stream_));
  ISTHMUS_RETURN_IF_ERROR(AddRow({.x = observed.sums.RowSlice(place, 1), .y = rows}, stream_));
  ISTHMUS_RETURN_IF_ERROR(AddDirections(rows, observed.squares, memory_.centred_unit_sums.RowSlice(place, 1),
                                        memory_.centred_counts.ColumnSlice(place, 1), stream_));
  return AddSum({.x = observed.squares.RowSlice(0, 1).ColumnSlice(0, own_sample_),
                 .total = memory_.centred_squares.ColumnSlice(place, 1)},
                stream_);
}

absl::Status LayerMeasurement::Finish() {
  const TraceRange range(stream_, "layers");
  const StreamObservation& observed = memory_.stream;
  ISTHMUS_RETURN_IF_ERROR(Reduce(memory_.sums));
  ISTHMUS_RETURN_IF_ERROR(
      Combine({.x = observed.sums, .y = observed.sums, .x_factor = -1.0 / static_cast<double>(tokens_), .y_factor = 0},
              stream_));
  ISTHMUS_RETURN_IF_ERROR(SetZero({.x = memory_.centred_sums}, stream_));
  for (int64_t place = 0; place <= shape_.layers; ++place) ISTHMUS_RETURN_IF_ERROR(AddCentred(place));
  ISTHMUS_RETURN_IF_ERROR(Reduce(memory_.centred_sums));
  int64_t row = 0;
  for (const Tensor& sum : {observed.unit_sums, memory_.centred_unit_sums, observed.sums}) {
    ISTHMUS_RETURN_IF_ERROR(RowDots({.x = sum, .y = sum, .dots = memory_.norms.RowSlice(row++, 1)}, stream_));
  }
  sums_.resize(kSums, shape_.layers + 1);
  row = 0;
  for (const Tensor& found :
       {memory_.gradient_squares, observed.counts, memory_.norms, memory_.centred_counts, memory_.centred_squares}) {
    ISTHMUS_ASSIGN_OR_RETURN(const Matrix copy, HostCopy(found, stream_));
    sums_.middleRows(row, copy.rows()) = copy;
    row += copy.rows();
  }
  if (has_same_tokens_as_another()) sums_.row(kGradientSquare).setZero();
  // The others are of the whole mesh already. One rank's are taken, so that all ranks have the same bits.
  if (mesh_.world().rank() != 0) sums_.bottomRows(kSums - 1).setZero();
  return absl::OkStatus();
}

absl::Span<double> LayerMeasurement::sums() { return absl::MakeSpan(sums_.data(), static_cast<size_t>(sums_.size())); }

std::vector<LayerFigures> LayerMeasurement::Figures() const {
  std::vector<LayerFigures> figures;
  for (Eigen::Index place = 0; place < sums_.cols(); ++place) {
    const auto sum = sums_.col(place);
    // The counts are sums of quotients that may be rounded.
    const int64_t count = std::llround(sum(kCount)), centred_count = std::llround(sum(kCentredCount));
    LayerFigures& layer = figures.emplace_back();
    layer.gradient_norm = std::sqrt(sum(kGradientSquare));
    layer.anisotropy = MeanCosine(sum(kUnitSquare), count);
    const double alike = kLeastDeviation * kLeastDeviation * static_cast<double>(centred_count) * sum(kMeanSquare);
    if (sum(kDeviation) > alike) layer.centred_anisotropy = MeanCosine(sum(kCentredUnitSquare), centred_count);
  }
  return figures;
}

}  // namespace isthmus
