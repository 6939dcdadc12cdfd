#include "model/chunked_loss.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <iterator>

#include "model/heads/heads.h"
#include "ops/cross_entropy.h"
#include "ops/elementwise.h"
#include "runtime/status.h"

namespace isthmus {

ChunkedLoss::ChunkedLoss(const proto::ModelConfig& config, const PartSetting& setting, int64_t loss_chunk,
                         const TokenTables& tables)
    : setting_(setting),
      head_(MakeHead({.config = config, .setting = setting, .tables = tables})),
      chunk_(std::max(std::min(loss_chunk, setting.batch.tokens()), head_->LeastChunk())),
      schedule_(config.head()),
      softmax_(setting, chunk_, LossFormOf(config), schedule_.offsets()) {}

void ChunkedLoss::Place(TensorPlacer& placer) {
  softmax_.Place(setting_.Share(setting_.vocabulary).size() + head_->MoreClasses(), placer);
  head_->Place(chunk_, placer);
  if (!setting_.training || schedule_.offsets() == 0 || head_->takes_future(1)) return;
  future_.grad_hidden = placer.Place("head.future_grad_hidden", setting_.type, setting_.batch.tokens(), setting_.width);
}

ArenaLayout ChunkedLoss::Layout() {
  TensorPlacer placer;
  Place(placer);
  return placer.layout();
}

absl::Status ChunkedLoss::Allocate(const ParameterStore& parameters, const TensorRegion& region, Stream& stream) {
  ISTHMUS_ASSIGN_OR_RETURN(arena_, Arena::Allocate("head and loss", Layout().bytes(), stream));
  TensorPlacer placer(&arena_);
  Place(placer);
  region_ = &region;
  stream_ = &stream;
  softmax_.Bind(region, stream);
  head_->Bind(parameters, region, stream);
  return absl::OkStatus();
}

absl::Status ChunkedLoss::Evaluate(const Tensor& hidden, const Tensor& targets, const Tensor& ids,
                                   const Tensor& scores) {
  head_->TakeInputs(ids);
  softmax_.ScoreInto(scores);
  absl::Status status = head_->Evaluate(hidden, targets, softmax_);
  if (status.ok() && scores.defined() && !scores_at_once()) status = ReadScores(hidden, targets);
  softmax_.ScoreInto(Tensor());
  return status;
}

absl::Status ChunkedLoss::ReadScores(const Tensor& hidden, const Tensor& targets) {
  ISTHMUS_RETURN_IF_ERROR(head_->BeginReading(hidden));
  return softmax_.ForChunks(hidden.rows, [&](int64_t begin, int64_t tokens) -> absl::Status {
    const SoftmaxChunk chunk = {.logits = softmax_.Logits(tokens, softmax_.rows().size()),
                                .targets = targets.ColumnSlice(begin, tokens),
                                .first_class = softmax_.rows().begin};
    ISTHMUS_RETURN_IF_ERROR(head_->Logits(hidden, begin, chunk.logits));
    return softmax_.Score(begin, chunk);
  });
}

Tensor ChunkedLoss::StepTargets(int64_t step, const Tensor& targets) {
  if (schedule_.WeightsAt(step).empty()) return targets;
  const int64_t count = targets.size(), rows = 1 + schedule_.offsets();
  if (stream_->dry()) {  // nobody knows them
    future_.targets.assign(static_cast<size_t>(rows * count), 0);
  } else {
    future_.targets = WithFutureTargets({targets.As<const int32_t>(), static_cast<size_t>(count)},
                                        setting_.batch.sequence_length, schedule_.offsets());
  }
  return {future_.targets.data(), DType::kInt32, rows, count};
}

absl::Status ChunkedLoss::BeginStep(const HeadStep& step) {
  future_.weights = schedule_.WeightsAt(step.step);
  if (step.targets.rows != 1 + std::ssize(future_.weights)) {
    return absl::InvalidArgumentError(absl::StrCat("targets of step ", step.step, " are ", step.targets.Describe(),
                                                   "; the head needs those of ", future_.weights.size(),
                                                   " later tokens, too"));
  }
  future_.by_offset = !future_.weights.empty() && !head_->takes_future(step.step);
  future_.step_tokens = step.targets.columns;
  ISTHMUS_RETURN_IF_ERROR(softmax_.BeginStep(future_.weights));
  return head_->BeginStep(step);
}

absl::Status ChunkedLoss::Train(const HeadBatch& batch) {
  return future_.by_offset && batch.targets.rows > 1 ? TrainByOffset(batch) : head_->Train(batch, softmax_);
}

absl::Status ChunkedLoss::TrainByOffset(const HeadBatch& batch) {
  const Tensor sum = region_->LocalPart(batch.grad_hidden);
  const Tensor part = future_.grad_hidden.RowSlice(0, batch.grad_hidden.rows);
  bool first = true;
  for (int64_t k = std::ssize(future_.weights); k >= 0; --k) {
    const double weight = k == 0 ? 1 : future_.weights[static_cast<size_t>(k - 1)];
    if (weight == 0) continue;
    HeadBatch row = batch;
    row.targets = batch.targets.RowSlice(k, 1);
    row.begin = k * future_.step_tokens + batch.begin;
    row.scale = batch.scale * weight;
    row.observed = k == 0 ? batch.observed : nullptr;
    row.grad_hidden = first ? batch.grad_hidden : part;
    softmax_.TakeOffset(k);
    const absl::Status trained = head_->Train(row, softmax_);
    softmax_.TakeOffset(0);
    ISTHMUS_RETURN_IF_ERROR(trained);
    if (!first) ISTHMUS_RETURN_IF_ERROR(Add({.x = region_->LocalPart(part), .y = sum}, *stream_));
    first = false;
  }
  return absl::OkStatus();
}

absl::StatusOr<Tensor> ChunkedLoss::Logits(const Tensor& hidden) {
  head_->TakeInputs(Tensor());
  return RowLogits({0, hidden.rows}, hidden);
}

absl::StatusOr<Tensor> ChunkedLoss::LogitsOf(int64_t token, const Tensor& hidden, const Tensor& ids) {
  if (!head_->reads_inputs()) return Logits(hidden.RowSlice(token, 1));
  head_->TakeInputs(ids);
  return RowLogits({token, token + 1}, hidden);
}

absl::StatusOr<Tensor> ChunkedLoss::RowLogits(Range rows, const Tensor& hidden) {
  const Tensor logits = softmax_.Logits(rows.size(), softmax_.rows().size());
  ISTHMUS_RETURN_IF_ERROR(head_->BeginReading(hidden));
  ISTHMUS_RETURN_IF_ERROR(head_->Logits(hidden, rows.begin, logits));
  if (softmax_.form().capped() && !head_->log_probabilities()) {
    ISTHMUS_RETURN_IF_ERROR(CapLogits({.logits = logits, .soft_cap = softmax_.form().soft_cap}, *stream_));
  }
  return logits;
}

}  // namespace isthmus
