#include "model/head_loss.h"

#include <algorithm>

#include "ops/cross_entropy.h"
#include "ops/elementwise.h"
#include "ops/reductions.h"
#include "runtime/device.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr int64_t kRowAlignment = 64;  // elements

}  // namespace

HeadLoss::Workspace HeadLoss::Place(const ModelShape& shape, const TensorShard& shard, DType type,
                                    const Options& options, TensorPlacer& placer) {
  const int64_t chunk = std::min(options.loss_chunk, options.tokens), rows = shard.vocabulary.size();
  const DType sum_type = AccumulationType(type);
  Workspace workspace;
  // Rows begin at aligned addresses, whatever the vocabulary: products and vector loads of odd rows are far slower.
  const int64_t padded = (rows + kRowAlignment - 1) / kRowAlignment * kRowAlignment;
  workspace.logits = placer.Place("head.logits", sum_type, chunk, padded).ColumnSlice(0, rows);
  if (options.training) {
    workspace.grad_logits = type == sum_type
                                ? workspace.logits
                                : placer.Place("head.grad_logits", type, chunk, padded).ColumnSlice(0, rows);
    if (type != sum_type) {
      workspace.wide_grad_input = placer.Place("head.wide_grad_input", sum_type, chunk, shape.head_width());
    }
  }
  workspace.statistics = placer.Place("head.statistics", sum_type, chunk, kCrossEntropyStatistics);
  workspace.gathered = placer.Place("head.gathered", sum_type, chunk * shard.ranks, kCrossEntropyStatistics);
  workspace.loss = placer.Place("head.loss", sum_type, 1, chunk);
  workspace.log_sum_exp = placer.Place("head.log_sum_exp", sum_type, 1, chunk);
  workspace.energy = placer.Place("head.energy", DType::kFloat64, shard.ranks, chunk);
  workspace.sums = placer.Place("head.sums", DType::kFloat64, 1, 1 + shard.ranks);
  if (shape.head_rank > 0) {
    workspace.projected = placer.Place("head.projected", type, options.tokens, shape.head_rank);
    if (options.training) {
      workspace.grad_projected = placer.Place("head.grad_projected", type, options.tokens, shape.head_rank);
    }
  }
  return workspace;
}

ArenaLayout HeadLoss::WorkspaceLayout(const ModelShape& shape, const TensorShard& shard, DType type,
                                      const Options& options) {
  TensorPlacer placer;
  Place(shape, shard, type, options, placer);
  return placer.layout();
}

absl::StatusOr<HeadLoss> HeadLoss::Create(const ModelShape& shape, const ParameterStore& parameters,
                                          const TensorRegion& region, const Options& options, Stream& stream) {
  HeadLoss head;
  head.options_ = options;
  head.shard_ = TensorShard::Of(shape, region.tensor().rank(), region.tensor().size());
  head.region_ = &region;
  head.stream_ = &stream;
  const char* name = shape.tied ? "embedding.weight" : shape.head_rank > 0 ? "head.up.weight" : "head.weight";
  head.vocabulary_ = {parameters.Weight(name), parameters.Gradient(name)};
  if (shape.head_rank > 0) {
    head.down_ = {parameters.Weight("head.down.weight"), parameters.Gradient("head.down.weight")};
  }
  const DType type = parameters.compute_type();
  ISTHMUS_ASSIGN_OR_RETURN(
      head.arena_,
      Arena::Allocate("head and loss", WorkspaceLayout(shape, head.shard_, type, options).bytes(), stream.device()));
  TensorPlacer placer(&head.arena_);
  head.workspace_ = Place(shape, head.shard_, type, options, placer);
  return head;
}

absl::Status HeadLoss::ForwardChunk(const Tensor& input, const Tensor& targets) {
  const int64_t tokens = input.rows;
  Communicator& tensor = region_->tensor();
  const Tensor logits = workspace_.logits.RowSlice(0, tokens);
  const Tensor statistics = workspace_.statistics.RowSlice(0, tokens);
  Tensor gathered = statistics;
  ISTHMUS_RETURN_IF_ERROR(vocabulary_.Forward(input, logits, *stream_));
  ISTHMUS_RETURN_IF_ERROR(CrossEntropyStatistics(
      {.logits = logits, .targets = targets, .first_row = shard_.vocabulary.begin, .statistics = statistics},
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
  ISTHMUS_RETURN_IF_ERROR(AddSum(loss, workspace_.sums.ColumnSlice(0, 1), *stream_));
  for (int shard = 0; shard < tensor.size(); ++shard) {
    ISTHMUS_RETURN_IF_ERROR(AddSum(energy.RowSlice(shard, 1), workspace_.sums.ColumnSlice(1 + shard, 1), *stream_));
  }
  return absl::OkStatus();
}

absl::Status HeadLoss::BackwardChunk(const Tensor& input, const Tensor& targets, double scale, int64_t begin,
                                     const Tensor& grad_input, const HeadObservation* observed) {
  const int64_t tokens = input.rows;
  const Tensor grad_logits = workspace_.grad_logits.RowSlice(0, tokens);
  ISTHMUS_RETURN_IF_ERROR(CrossEntropyGradient({.logits = workspace_.logits.RowSlice(0, tokens),
                                                .targets = targets,
                                                .first_row = shard_.vocabulary.begin,
                                                .loss = workspace_.loss.ColumnSlice(0, tokens),
                                                .log_sum_exp = workspace_.log_sum_exp.ColumnSlice(0, tokens),
                                                .scale = scale,
                                                .grad_logits = grad_logits},
                                               *stream_));
  if (observed != nullptr) {
    ISTHMUS_RETURN_IF_ERROR(AddColumnSquares({.x = grad_logits, .total = observed->row_energy}, *stream_));
  }
  if (workspace_.wide_grad_input.defined()) {
    const Tensor wide = workspace_.wide_grad_input.RowSlice(0, tokens);
    ISTHMUS_RETURN_IF_ERROR(vocabulary_.BackwardInput(grad_logits, wide, *stream_));
    ISTHMUS_RETURN_IF_ERROR(Cast(wide, grad_input, *stream_));
    if (observed != nullptr && observed->signal.defined()) {
      ISTHMUS_RETURN_IF_ERROR(Cast(wide, observed->signal.RowSlice(begin, tokens), *stream_));
    }
  } else {
    ISTHMUS_RETURN_IF_ERROR(vocabulary_.BackwardInput(grad_logits, grad_input, *stream_));
  }
  return vocabulary_.BackwardWeight(grad_logits, input, *stream_);
}

absl::Status HeadLoss::Observe(int64_t begin, int64_t tokens, const HeadObservation& observed) {
  const auto keep = [&](const Tensor& chunk, const Tensor& all) {
    return Cast(chunk.ColumnSlice(0, tokens), all.ColumnSlice(begin, tokens), *stream_);
  };
  ISTHMUS_RETURN_IF_ERROR(keep(workspace_.loss, observed.loss));
  ISTHMUS_RETURN_IF_ERROR(keep(workspace_.log_sum_exp, observed.log_sum_exp));
  return keep(workspace_.energy, observed.energy);
}

absl::Status HeadLoss::Run(const Tensor& hidden, const Tensor& targets, double scale, const Tensor& grad_hidden,
                           const HeadObservation* observed) {
  const bool training = grad_hidden.defined();
  Tensor input = hidden, grad_input = grad_hidden;
  if (factorised()) {
    input = workspace_.projected.RowSlice(0, hidden.rows);
    grad_input = training ? workspace_.grad_projected.RowSlice(0, hidden.rows) : Tensor();
    ISTHMUS_RETURN_IF_ERROR(down_.Forward(hidden, input, *stream_));
  }
  for (int64_t begin = 0; begin < hidden.rows; begin += workspace_.logits.rows) {
    const int64_t count = std::min(workspace_.logits.rows, hidden.rows - begin);
    const Tensor chunk = input.RowSlice(begin, count), chunk_targets = targets.ColumnSlice(begin, count);
    ISTHMUS_RETURN_IF_ERROR(ForwardChunk(chunk, chunk_targets));
    if (observed != nullptr) ISTHMUS_RETURN_IF_ERROR(Observe(begin, count, *observed));
    if (training) {
      ISTHMUS_RETURN_IF_ERROR(
          BackwardChunk(chunk, chunk_targets, scale, begin, grad_input.RowSlice(begin, count), observed));
    }
  }
  return absl::OkStatus();
}

absl::Status HeadLoss::ResetSums() { return SetZero(workspace_.sums, *stream_); }

absl::StatusOr<HeadLossSums> HeadLoss::Sums() {
  const int64_t count = workspace_.sums.columns;
  ISTHMUS_ASSIGN_OR_RETURN(const Tensor sums, host_sums_.Room(DType::kFloat64, 1, count, *stream_));
  ISTHMUS_RETURN_IF_ERROR(CopyToHost(workspace_.sums, sums, *stream_));
  const double* values = sums.As<const double>();
  return HeadLossSums{values[0], {values + 1, values + count}};
}

absl::Status HeadLoss::Evaluate(const Tensor& hidden, const Tensor& targets) {
  return Run(hidden, targets, 0, Tensor(), nullptr);
}

absl::Status HeadLoss::Train(const Tensor& hidden, const Tensor& targets, double scale, const Tensor& grad_hidden,
                             const HeadObservation* observed) {
  ISTHMUS_RETURN_IF_ERROR(Run(hidden, targets, scale, grad_hidden, observed));
  if (!factorised()) {
    hidden_gradient_ = region_->LocalPart(grad_hidden);
    return region_->Leave(grad_hidden, hidden_gradient_);
  }
  // Every tensor rank goes on with all tokens of the whole sum, so that the gradient of E needs no reduction.
  const Tensor grad_projected = workspace_.grad_projected.RowSlice(0, hidden.rows);
  if (region_->tensor().size() > 1) ISTHMUS_RETURN_IF_ERROR(region_->tensor().AllReduce(grad_projected));
  hidden_gradient_ = grad_projected;
  ISTHMUS_RETURN_IF_ERROR(down_.BackwardWeight(grad_projected, hidden, *stream_));
  return down_.BackwardInput(grad_projected, grad_hidden, *stream_);
}

absl::StatusOr<Tensor> HeadLoss::Logits(const Tensor& hidden) {
  Tensor input = hidden;
  if (factorised()) {
    input = workspace_.projected.RowSlice(0, hidden.rows);
    ISTHMUS_RETURN_IF_ERROR(down_.Forward(hidden, input, *stream_));
  }
  const Tensor logits = workspace_.logits.RowSlice(0, hidden.rows);
  ISTHMUS_RETURN_IF_ERROR(vocabulary_.Forward(input, logits, *stream_));
  return logits;
}

}  // namespace isthmus
