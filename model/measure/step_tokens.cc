#include "model/measure/step_tokens.h"

#include <algorithm>

#include "model/algebra/host_copy.h"
#include "model/algebra/matrix.h"
#include "ops/elementwise.h"
#include "ops/embedding.h"
#include "ops/future_targets.h"
#include "ops/reductions.h"
#include "parallel/shard.h"
#include "runtime/device.h"
#include "runtime/status.h"
#include "runtime/work_recorder.h"

namespace isthmus {

absl::Status StepTokens::Begin(int64_t local_tokens, const Tensor& targets, absl::Span<const double> future_weights) {
  const int64_t tokens = local_tokens * mesh_.data_ranks();
  targets_ = targets;
  scale_ = 1.0 / static_cast<double>(tokens);
  first_token_ = local_tokens * mesh_.data_rank();
  sums_ = TokenSums();
  sampled_ = SampledTokens(TokenSample::Of(tokens, shape_.sampled), future_weights);
  waiting_.reset();
  return PlaceSample(local_tokens / shape_.tokens);
}

absl::Status StepTokens::PlaceSample(int64_t micro_batches) {
  if (stream_.dry()) {
    const int64_t bytes = micro_batches * shape_.sampled * SizeOf(DType::kInt32);
    placed_ = Tensor(stream_.recorder()->Addresses(bytes), DType::kInt32, micro_batches, shape_.sampled);
    return absl::OkStatus();
  }
  ISTHMUS_ASSIGN_OR_RETURN(placed_, positions_.Room(DType::kInt32, micro_batches, shape_.sampled, stream_));
  auto* positions = placed_.As<int32_t>();
  std::fill_n(positions, placed_.size(), -1);
  for (int64_t index = 0; index < micro_batches; ++index, positions += shape_.sampled) {
    const TokenSample::Part part = sampled_.sample.In(first_token_ + index * shape_.tokens, shape_.tokens);
    for (int64_t i = 0; i < part.count; ++i) {
      positions[part.first + i] = static_cast<int32_t>(part.offset + i * sampled_.sample.stride);
    }
  }
  return absl::OkStatus();
}

absl::Status StepTokens::BeginMicroBatch(int64_t index) {
  micro_batch_ = index;
  return StartCopyFromHost(placed_.RowSlice(index, 1), memory_.tokens.positions, stream_);
}

absl::StatusOr<Tensor> StepTokens::TargetRows(const HeadView& head, const Tensor& targets, int64_t begin,
                                              int64_t count) {
  const int ranks = mesh_.tensor_ranks();
  const Tensor& all = ranks > 1 ? memory_.tokens.all_target_rows : memory_.tokens.target_rows;
  // Nobody reads the rows of tokens that a rank does not have, so they keep their old contents.
  for (int rank = 0; rank < ranks; ++rank) {
    const Range tokens = shape_.OwnTokens(rank);
    const int64_t present = std::clamp<int64_t>(tokens.size() - begin, 0, shape_.token_chunk());
    if (present == 0) continue;
    ISTHMUS_RETURN_IF_ERROR(EmbeddingForward({.ids = targets.ColumnSlice(tokens.begin + begin, present),
                                              .table = head.weight,
                                              .first_row = head.rows.begin,
                                              .y = all.RowSlice(rank * shape_.token_chunk(), present)},
                                             stream_));
  }
  if (ranks > 1) ISTHMUS_RETURN_IF_ERROR(mesh_.tensor().ReduceScatter(all, memory_.tokens.target_rows));
  Tensor rows = memory_.tokens.target_rows.RowSlice(0, count);
  if (memory_.tokens.wide_target_rows.defined()) {
    const Tensor wide = memory_.tokens.wide_target_rows.RowSlice(0, count);
    ISTHMUS_RETURN_IF_ERROR(Cast({.x = rows, .y = wide}, stream_));
    rows = wide;
  }
  return rows;
}

absl::Status StepTokens::Add(const HeadView& head, const Tensor& all_hidden, const Tensor& targets) {
  const Range own = shape_.OwnTokens(mesh_.tensor_rank());
  const Tensor hidden = all_hidden.RowSlice(own.begin, own.size());
  const Tensor signal = head.signal_is_local ? head.signal : head.signal.RowSlice(own.begin, own.size());
  ISTHMUS_RETURN_IF_ERROR(memory_.AddGram(signal, signal, memory_.sums.signal_gram, stream_));
  ISTHMUS_RETURN_IF_ERROR(memory_.AddGram(signal, hidden, memory_.sums.signal_hidden, stream_));
  ISTHMUS_RETURN_IF_ERROR(memory_.AddGram(hidden, hidden, memory_.sums.hidden_gram, stream_));
  const Tensor squares = memory_.squares.ColumnSlice(0, own.size());
  ISTHMUS_RETURN_IF_ERROR(RowDots({.x = hidden, .y = hidden, .dots = squares}, stream_));
  ISTHMUS_RETURN_IF_ERROR(
      AddUnitRows({.x = hidden, .squares = squares, .total = memory_.sums.hidden_unit_sum}, stream_));
  ISTHMUS_RETURN_IF_ERROR(Project(head, signal, targets.RowSlice(0, 1)));
  // Tokens that are not of this micro-batch read as zero.
  ISTHMUS_RETURN_IF_ERROR(EmbeddingForward(
      {.ids = memory_.tokens.positions, .table = all_hidden, .first_row = 0, .y = memory_.tokens.found_hidden},
      stream_));
  return isthmus::Add({.x = memory_.tokens.found_hidden, .y = memory_.sample.hidden}, stream_);
}

absl::Status StepTokens::Project(const HeadView& head, const Tensor& signal, const Tensor& targets) {
  // The projector's factor must not be rounded to the compute type before. A condition of some hundreds would make
  // bf16's rounding larger than the signal.
  Tensor wide_signal = signal;
  if (memory_.tokens.signal.defined()) {
    if (mesh_.tensor_ranks() > 1) {
      ISTHMUS_RETURN_IF_ERROR(mesh_.tensor().ReduceScatter(memory_.tokens.shard_signal, memory_.tokens.signal));
    }
    wide_signal = memory_.tokens.signal;
  }
  const int64_t own_tokens = shape_.OwnTokens(mesh_.tensor_rank()).size();
  for (int64_t chunk = 0; chunk < shape_.token_chunks(); ++chunk) {
    const int64_t begin = chunk * shape_.token_chunk();
    const int64_t count = std::clamp<int64_t>(own_tokens - begin, 0, shape_.token_chunk());
    ISTHMUS_ASSIGN_OR_RETURN(const Tensor target_rows, TargetRows(head, targets, begin, count));
    if (count == 0) continue;
    const Tensor part = wide_signal.RowSlice(begin, count);
    const Tensor projected = memory_.tokens.projected.RowSlice(0, count);
    const Tensor target_basis = memory_.tokens.target_basis.RowSlice(0, count);
    ISTHMUS_RETURN_IF_ERROR(projector_.Project(part, target_rows, projected, target_basis));
    ISTHMUS_RETURN_IF_ERROR(
        RowDots({.x = projected, .y = projected, .dots = memory_.tokens.retained.ColumnSlice(begin, count)}, stream_));
    ISTHMUS_RETURN_IF_ERROR(RowDots(
        {.x = projected, .y = target_basis, .dots = memory_.tokens.target_dots.ColumnSlice(begin, count)}, stream_));
  }
  return absl::OkStatus();
}

absl::Status StepTokens::EndMicroBatch() {
  ISTHMUS_RETURN_IF_ERROR(staged_[static_cast<size_t>(micro_batch_ % 2)].Start(
      {memory_.tokens.loss, memory_.tokens.log_sum_exp, memory_.tokens.energy, memory_.tokens.retained,
       memory_.tokens.target_dots},
      stream_));
  ISTHMUS_RETURN_IF_ERROR(Finish());
  waiting_ = micro_batch_;
  return absl::OkStatus();
}

absl::Status StepTokens::Finish() {
  if (!waiting_.has_value() || stream_.dry()) return absl::OkStatus();
  const int64_t micro_batch = *waiting_;
  ISTHMUS_ASSIGN_OR_RETURN(const auto copies, staged_[static_cast<size_t>(micro_batch % 2)].Wait());
  waiting_.reset();
  ISTHMUS_ASSIGN_OR_RETURN(const Matrix loss, Widened(copies[kLoss]));
  ISTHMUS_ASSIGN_OR_RETURN(const Matrix log_sum_exp, Widened(copies[kLogSumExp]));
  const auto energy = ViewOf(copies[kEnergy]), retained = ViewOf(copies[kRetained]),
             target_dots = ViewOf(copies[kTargetDot]);
  const Range own = shape_.OwnTokens(mesh_.tensor_rank());
  const Tensor all_targets = targets_.ColumnSlice(micro_batch * shape_.tokens, shape_.tokens);
  const auto* targets = all_targets.As<int32_t>();
  const std::vector<double>& later_weights = sampled_.future_weights;
  const auto weights = [&](int64_t n) {
    const FutureTargetsOfToken token = {targets + n, all_targets.row_stride, later_weights.data(),
                                        static_cast<int>(later_weights.size())};
    return token.Of(targets[n]);
  };
  const auto figures = [&](int64_t n) {
    return TokenFigures{.loss = loss(0, n),
                        .log_sum_exp = log_sum_exp(0, n),
                        .target = targets[n],
                        .weights = weights(n),
                        .energy = energy.col(n).sum(),
                        .retained_energy = retained(0, n - own.begin),
                        .retained_at_target = target_dots(0, n - own.begin)};
  };
  for (int64_t n = own.begin; n < own.end; ++n) sums_.Add(figures(n), scale_, shape_.form);
  const TokenSample::Part part = sampled_.sample.In(first_token_ + micro_batch * shape_.tokens, shape_.tokens);
  for (int64_t k = 0; k < part.count; ++k) {
    const int64_t n = part.offset + k * sampled_.sample.stride;
    if (n < own.begin || n >= own.end) continue;  // another tensor rank's
    sampled_.Set(part.first + k, figures(n));
    for (int64_t offset = 1; offset < all_targets.rows; ++offset) {
      sampled_.figures(part.first + k, SampledTokens::kFigures + offset - 1) = all_targets.Row<int32_t>(offset)[n];
    }
    sums_.sampled_retained += figures(n).retained_energy;
  }
  return absl::OkStatus();
}

}  // namespace isthmus
