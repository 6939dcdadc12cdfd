#include "model/chunked_loss.h"

#include <algorithm>

#include "model/heads/heads.h"
#include "ops/cross_entropy.h"
#include "ops/elementwise.h"
#include "ops/reductions.h"
#include "runtime/device.h"
#include "runtime/status.h"
#include "runtime/work_recorder.h"

namespace isthmus {
namespace {

constexpr int64_t kRowAlignment = 64;  // elements

}  // namespace

ChunkedLoss::ChunkedLoss(const proto::ModelConfig& config, const PartSetting& setting, int64_t loss_chunk)
    : setting_(setting),
      chunk_(std::min(loss_chunk, setting.batch.tokens())),
      head_(MakeHead({.config = config, .setting = setting})) {}

void ChunkedLoss::Place(TensorPlacer& placer) {
  const int64_t rows = setting_.Share(setting_.vocabulary).size(), ranks = setting_.tensor_ranks;
  const DType type = setting_.type, sum_type = setting_.sum_type();
  // Rows begin at aligned addresses, whatever the vocabulary: products and vector loads of odd rows are far slower.
  const int64_t padded = (rows + kRowAlignment - 1) / kRowAlignment * kRowAlignment;
  workspace_.logits = placer.Place("head.logits", sum_type, chunk_, padded).ColumnSlice(0, rows);
  if (setting_.training) {
    workspace_.grad_logits = type == sum_type
                                 ? workspace_.logits
                                 : placer.Place("head.grad_logits", type, chunk_, padded).ColumnSlice(0, rows);
  }
  workspace_.statistics = placer.Place("head.statistics", sum_type, chunk_, kCrossEntropyStatistics);
  workspace_.gathered = placer.Place("head.gathered", sum_type, chunk_ * ranks, kCrossEntropyStatistics);
  workspace_.loss = placer.Place("head.loss", sum_type, 1, chunk_);
  workspace_.log_sum_exp = placer.Place("head.log_sum_exp", sum_type, 1, chunk_);
  workspace_.energy = placer.Place("head.energy", DType::kFloat64, ranks, chunk_);
  workspace_.sums = placer.Place("head.sums", DType::kFloat64, 1, 1 + ranks);
  head_->Place(chunk_, placer);
}

ArenaLayout ChunkedLoss::Layout() {
  TensorPlacer placer;
  Place(placer);
  return placer.layout();
}

absl::Status ChunkedLoss::Allocate(const ParameterStore& parameters, const TensorRegion& region, Stream& stream) {
  region_ = &region;
  stream_ = &stream;
  ISTHMUS_ASSIGN_OR_RETURN(arena_, Arena::Allocate("head and loss", Layout().bytes(), stream));
  TensorPlacer placer(&arena_);
  Place(placer);
  head_->Bind(parameters, region, stream);
  return absl::OkStatus();
}

template <typename Visit>
absl::Status ChunkedLoss::ForChunks(int64_t tokens, const Visit& visit) const {
  return ForEachAlike(*stream_, (tokens + chunk_ - 1) / chunk_, [&](int64_t i) {
    const int64_t begin = i * chunk_;
    return visit(begin, std::min(chunk_, tokens - begin));
  });
}

absl::Status ChunkedLoss::AddLoss(const Tensor& logits, const Tensor& targets) {
  const int64_t tokens = logits.rows;
  Communicator& tensor = region_->tensor();
  const Tensor statistics = workspace_.statistics.RowSlice(0, tokens);
  Tensor gathered = statistics;
  ISTHMUS_RETURN_IF_ERROR(CrossEntropyStatistics({.logits = logits,
                                                  .targets = targets,
                                                  .first_row = setting_.Share(setting_.vocabulary).begin,
                                                  .statistics = statistics},
                                                 *stream_));
  if (tensor.size() > 1) {
    gathered = workspace_.gathered.RowSlice(0, tokens * tensor.size());
    ISTHMUS_RETURN_IF_ERROR(tensor.AllGather(statistics, gathered));
  }
  const Tensor loss = workspace_.loss.ColumnSlice(0, tokens);
  const Tensor energy = workspace_.energy.ColumnSlice(0, tokens);
  ISTHMUS_RETURN_IF_ERROR(CrossEntropyCombine({.gathered = gathered,
                                               .shards = tensor.size(),
                                               .loss = loss,
                                               .log_sum_exp = workspace_.log_sum_exp.ColumnSlice(0, tokens),
                                               .energy = energy},
                                              *stream_));
  ISTHMUS_RETURN_IF_ERROR(AddSum({.x = loss, .total = workspace_.sums.ColumnSlice(0, 1)}, *stream_));
  for (int shard = 0; shard < tensor.size(); ++shard) {
    ISTHMUS_RETURN_IF_ERROR(
        AddSum({.x = energy.RowSlice(shard, 1), .total = workspace_.sums.ColumnSlice(1 + shard, 1)}, *stream_));
  }
  return absl::OkStatus();
}

absl::Status ChunkedLoss::LogitGradient(const Tensor& targets, double scale) {
  const int64_t tokens = targets.columns;
  return CrossEntropyGradient({.logits = workspace_.logits.RowSlice(0, tokens),
                               .targets = targets,
                               .first_row = setting_.Share(setting_.vocabulary).begin,
                               .loss = workspace_.loss.ColumnSlice(0, tokens),
                               .log_sum_exp = workspace_.log_sum_exp.ColumnSlice(0, tokens),
                               .scale = scale,
                               .grad_logits = workspace_.grad_logits.RowSlice(0, tokens)},
                              *stream_);
}

absl::Status ChunkedLoss::Observe(int64_t begin, int64_t tokens, const HeadObservation& observed) {
  const auto keep = [&](const Tensor& chunk, const Tensor& all) {
    return Cast({.x = chunk.ColumnSlice(0, tokens), .y = all.ColumnSlice(begin, tokens)}, *stream_);
  };
  ISTHMUS_RETURN_IF_ERROR(keep(workspace_.loss, observed.loss));
  ISTHMUS_RETURN_IF_ERROR(keep(workspace_.log_sum_exp, observed.log_sum_exp));
  return keep(workspace_.energy, observed.energy);
}

absl::Status ChunkedLoss::ResetSums() { return SetZero({.x = workspace_.sums}, *stream_); }

absl::StatusOr<LossSums> ChunkedLoss::Sums() {
  const int64_t count = workspace_.sums.columns;
  ISTHMUS_ASSIGN_OR_RETURN(const Tensor sums, host_sums_.Room(DType::kFloat64, 1, count, *stream_));
  ISTHMUS_RETURN_IF_ERROR(CopyToHost(workspace_.sums, sums, *stream_));
  const double* values = sums.As<const double>();
  return LossSums{values[0], {values + 1, values + count}};
}

absl::Status ChunkedLoss::Evaluate(const Tensor& hidden, const Tensor& targets) {
  ISTHMUS_RETURN_IF_ERROR(head_->Begin(hidden));
  return ForChunks(hidden.rows, [&](int64_t begin, int64_t tokens) -> absl::Status {
    const Tensor logits = workspace_.logits.RowSlice(0, tokens);
    ISTHMUS_RETURN_IF_ERROR(head_->Logits(hidden, begin, logits));
    return AddLoss(logits, targets.ColumnSlice(begin, tokens));
  });
}

absl::Status ChunkedLoss::Train(const Tensor& hidden, const Tensor& targets, double scale, const Tensor& grad_hidden,
                                const HeadObservation* observed) {
  ISTHMUS_RETURN_IF_ERROR(head_->Begin(hidden));
  const auto train = [&](int64_t begin, int64_t tokens) -> absl::Status {
    const Tensor logits = workspace_.logits.RowSlice(0, tokens), chunk_targets = targets.ColumnSlice(begin, tokens);
    ISTHMUS_RETURN_IF_ERROR(head_->Logits(hidden, begin, logits));
    ISTHMUS_RETURN_IF_ERROR(AddLoss(logits, chunk_targets));
    if (observed != nullptr) ISTHMUS_RETURN_IF_ERROR(Observe(begin, tokens, *observed));
    ISTHMUS_RETURN_IF_ERROR(LogitGradient(chunk_targets, scale));
    const Tensor grad_logits = workspace_.grad_logits.RowSlice(0, tokens);
    Tensor signal;
    if (observed != nullptr) {
      ISTHMUS_RETURN_IF_ERROR(AddColumnSquares({.x = grad_logits, .total = observed->row_energy}, *stream_));
      if (observed->signal.defined()) signal = observed->signal.RowSlice(begin, tokens);
    }
    return head_->Backward(hidden, begin, grad_logits, grad_hidden, signal);
  };
  ISTHMUS_RETURN_IF_ERROR(ForChunks(hidden.rows, train));
  return head_->Finish(hidden, grad_hidden);
}

absl::StatusOr<Tensor> ChunkedLoss::Logits(const Tensor& hidden) {
  const Tensor logits = workspace_.logits.RowSlice(0, hidden.rows);
  ISTHMUS_RETURN_IF_ERROR(head_->Begin(hidden));
  ISTHMUS_RETURN_IF_ERROR(head_->Logits(hidden, 0, logits));
  return logits;
}

}  // namespace isthmus
