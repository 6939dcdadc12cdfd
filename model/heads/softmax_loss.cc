#include "model/heads/softmax_loss.h"

#include <absl/strings/str_cat.h>

#include "ops/elementwise.h"
#include "ops/future_targets.h"
#include "ops/reductions.h"
#include "ops/top_target.h"
#include "runtime/device.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr int64_t kRowAlignment = 64;  // elements

}  // namespace

void SoftmaxLoss::Place(int64_t classes, TensorPlacer& placer) {
  const int64_t ranks = setting_.tensor_ranks, offsets = setting_.training ? future_.offsets() : 0;
  const DType type = setting_.type, sum_type = setting_.sum_type();
  // Rows begin at aligned addresses, however many classes: products and vector loads of odd rows are far slower.
  const int64_t padded = (classes + kRowAlignment - 1) / kRowAlignment * kRowAlignment;
  workspace_.logits = placer.Place("head.logits", sum_type, chunk_, padded).ColumnSlice(0, classes);
  if (setting_.training) {
    workspace_.grad_logits = type == sum_type
                                 ? workspace_.logits
                                 : placer.Place("head.grad_logits", type, chunk_, padded).ColumnSlice(0, classes);
  }
  const int64_t statistics = kCrossEntropyStatistics + offsets;
  workspace_.statistics = placer.Place("head.statistics", sum_type, chunk_, statistics);
  workspace_.gathered = placer.Place("head.gathered", sum_type, chunk_ * ranks, statistics);
  workspace_.loss = placer.Place("head.loss", sum_type, 1, chunk_);
  workspace_.log_sum_exp = placer.Place("head.log_sum_exp", sum_type, 1, chunk_);
  workspace_.energy = placer.Place("head.energy", DType::kFloat64, ranks, chunk_);
  workspace_.top = placer.Place("head.top", DType::kInt32, 1, chunk_);
  workspace_.sums = placer.Place("head.sums", DType::kFloat64, 1, 1 + ranks + (form_.z_loss != 0 ? 1 : 0) + offsets);
  if (offsets > 0) future_.Place(chunk_, sum_type, placer);
}

void SoftmaxLoss::Bind(const TensorRegion& region, Stream& stream) {
  region_ = &region;
  stream_ = &stream;
}

absl::Status SoftmaxLoss::Add(absl::Span<const SoftmaxChunk> parts) {
  ISTHMUS_ASSIGN_OR_RETURN(const SoftmaxTokens tokens, Compare(parts));
  ISTHMUS_RETURN_IF_ERROR(AddToSums(tokens));
  for (int64_t k = 1; !parts.empty() && k < parts.front().targets.rows; ++k) {
    ISTHMUS_RETURN_IF_ERROR(AddSum({.x = future_.losses(k, tokens.loss.columns), .total = SumOf(k)}, *stream_));
  }
  return absl::OkStatus();
}

absl::StatusOr<SoftmaxTokens> SoftmaxLoss::Compare(absl::Span<const SoftmaxChunk> parts) {
  const int64_t offsets = parts.empty() ? 0 : parts.front().targets.rows - 1;
  if (offsets > future_.offsets()) {
    return absl::InvalidArgumentError(absl::StrCat("a chunk has targets of ", offsets, " later tokens; accepts ",
                                                   future_.offsets(), " (model.head.future)"));
  }
  const LossForm form = CurrentForm();
  int64_t tokens = 0;
  for (const SoftmaxChunk& part : parts) {
    const Tensor statistics =
        StatisticsIn(workspace_.statistics, tokens + part.logits.rows, offsets).RowSlice(tokens, part.logits.rows);
    ISTHMUS_RETURN_IF_ERROR(CrossEntropyStatistics({.logits = part.logits,
                                                    .targets = part.targets.RowSlice(0, 1),
                                                    .first_row = part.first_class,
                                                    .form = form,
                                                    .statistics = statistics.ColumnSlice(0, kCrossEntropyStatistics)},
                                                   *stream_));
    if (offsets > 0) {
      ISTHMUS_RETURN_IF_ERROR(
          FutureTargetLogits({.logits = part.logits,
                              .targets = part.targets.RowSlice(1, offsets),
                              .first_row = part.first_class,
                              .form = form,
                              .target_logits = statistics.ColumnSlice(kCrossEntropyStatistics, offsets)},
                             *stream_));
    }
    tokens += part.logits.rows;
  }
  Communicator& tensor = region_->tensor();
  const Tensor statistics = StatisticsIn(workspace_.statistics, tokens, offsets);
  Tensor gathered = statistics;
  if (tensor.size() > 1) {
    gathered = StatisticsIn(workspace_.gathered, tokens * tensor.size(), offsets);
    ISTHMUS_RETURN_IF_ERROR(tensor.AllGather(statistics, gathered));
  }
  const Tensor loss = workspace_.loss.ColumnSlice(0, tokens);
  const Tensor energy = workspace_.energy.ColumnSlice(0, tokens);
  const Tensor log_sum_exp = workspace_.log_sum_exp.ColumnSlice(0, tokens);
  ISTHMUS_RETURN_IF_ERROR(CrossEntropyCombine({.gathered = gathered.ColumnSlice(0, kCrossEntropyStatistics),
                                               .shards = tensor.size(),
                                               .form = form,
                                               .loss = loss,
                                               .log_sum_exp = log_sum_exp,
                                               .energy = offsets > 0 ? Tensor() : energy},
                                              *stream_));
  if (offsets > 0) {
    ISTHMUS_RETURN_IF_ERROR(future_.Compare(FutureOf(parts.front()), gathered, tensor.size(), loss, energy, *stream_));
  }
  return SoftmaxTokens{.loss = loss, .energy = energy, .log_sum_exp = log_sum_exp};
}

absl::Status SoftmaxLoss::AddToSums(const SoftmaxTokens& tokens) {
  if (offset_ > 0) return AddSum({.x = tokens.loss, .total = SumOf(offset_)}, *stream_);
  const int shards = region_->tensor().size();
  ISTHMUS_RETURN_IF_ERROR(AddSum({.x = tokens.loss, .total = workspace_.sums.ColumnSlice(0, 1)}, *stream_));
  for (int shard = 0; tokens.energy.defined() && shard < shards; ++shard) {
    ISTHMUS_RETURN_IF_ERROR(
        AddSum({.x = tokens.energy.RowSlice(shard, 1), .total = workspace_.sums.ColumnSlice(1 + shard, 1)}, *stream_));
  }
  if (form_.z_loss == 0) return absl::OkStatus();
  return AddSumOfSquares({.x = tokens.log_sum_exp, .total = workspace_.sums.ColumnSlice(1 + shards, 1)}, *stream_);
}

absl::Status SoftmaxLoss::Score(int64_t begin, const SoftmaxChunk& chunk) {
  if (!scores_.defined()) return absl::OkStatus();
  Communicator& tensor = region_->tensor();
  const int64_t tokens = chunk.logits.rows;
  const Tensor top = workspace_.top.ColumnSlice(0, tokens);
  const Tensor rivals = RivalsIn(workspace_.statistics, tokens);
  ISTHMUS_RETURN_IF_ERROR(TargetRivals({.logits = chunk.logits,
                                        .targets = chunk.targets.RowSlice(0, 1),
                                        .first_row = chunk.first_class,
                                        .rivals = rivals},
                                       *stream_));
  Tensor gathered = rivals;
  if (tensor.size() > 1) {
    gathered = RivalsIn(workspace_.gathered, tokens * tensor.size());
    ISTHMUS_RETURN_IF_ERROR(tensor.AllGather(rivals, gathered));
  }
  ISTHMUS_RETURN_IF_ERROR(TopTargets({.gathered = gathered, .shards = tensor.size(), .top = top}, *stream_));
  return CopyToHost(top, scores_.ColumnSlice(begin, tokens), *stream_);
}

absl::Status SoftmaxLoss::Observe(int64_t begin, int64_t tokens, const HeadObservation& observed) {
  const auto keep = [&](const Tensor& chunk, const Tensor& all) {
    return Cast({.x = chunk.ColumnSlice(0, tokens), .y = all.ColumnSlice(begin, tokens)}, *stream_);
  };
  ISTHMUS_RETURN_IF_ERROR(keep(workspace_.loss, observed.loss));
  ISTHMUS_RETURN_IF_ERROR(keep(workspace_.log_sum_exp, observed.log_sum_exp));
  return keep(workspace_.energy, observed.energy);
}

absl::StatusOr<Tensor> SoftmaxLoss::Gradient(const SoftmaxChunk& chunk, double scale, const HeadObservation* observed,
                                             int64_t first, const SoftmaxWeights& weights) {
  const int64_t tokens = chunk.logits.rows, offsets = chunk.targets.rows - 1;
  const ConstTensor log_sum_exp = workspace_.log_sum_exp.ColumnSlice(first, tokens);
  const SoftmaxWeights used =
      offsets == 0 ? weights : SoftmaxWeights{future_.target_weight(tokens), future_.excess_weight(tokens)};
  const Tensor gradient = workspace_.grad_logits.RowSlice(first, tokens).ColumnSlice(0, chunk.logits.columns);
  ISTHMUS_RETURN_IF_ERROR(CrossEntropyGradient({.logits = chunk.logits,
                                                .targets = chunk.targets.RowSlice(0, 1),
                                                .first_row = chunk.first_class,
                                                .loss = workspace_.loss.ColumnSlice(first, tokens),
                                                .log_sum_exp = log_sum_exp,
                                                .form = CurrentForm(),
                                                .target_weight = used.target,
                                                .excess_weight = used.excess,
                                                .scale = scale,
                                                .grad_logits = gradient},
                                               *stream_));
  if (offsets > 0) {
    const Tensor statistics = StatisticsIn(workspace_.statistics, tokens, offsets);
    ISTHMUS_RETURN_IF_ERROR(future_.CompleteGradient(FutureOf(chunk),
                                                     statistics.ColumnSlice(kCrossEntropyStatistics, offsets),
                                                     log_sum_exp, scale, gradient, *stream_));
  }
  if (observed != nullptr) {
    ISTHMUS_RETURN_IF_ERROR(AddColumnSquares({.x = gradient, .total = observed->row_energy}, *stream_));
  }
  return gradient;
}

absl::Status SoftmaxLoss::ResetSums() { return SetZero({.x = workspace_.sums}, *stream_); }

absl::StatusOr<LossSums> SoftmaxLoss::Sums() {
  const int64_t count = workspace_.sums.columns, shards = region_->tensor().size();
  ISTHMUS_ASSIGN_OR_RETURN(const Tensor sums, host_sums_.Room(DType::kFloat64, 1, count, *stream_));
  ISTHMUS_RETURN_IF_ERROR(CopyToHost(workspace_.sums, sums, *stream_));
  const double* values = sums.As<const double>();
  const int64_t offsets = setting_.training ? future_.offsets() : 0;
  return LossSums{.loss = values[0],
                  .energy = {values + 1, values + 1 + shards},
                  .z_loss = form_.z_loss == 0 ? 0 : form_.z_loss * values[1 + shards],
                  .future = {values + count - offsets, values + count}};
}

}  // namespace isthmus
