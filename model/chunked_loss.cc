#include "model/chunked_loss.h"

#include <algorithm>

#include "model/heads/heads.h"
#include "ops/cross_entropy.h"
#include "runtime/status.h"

namespace isthmus {

ChunkedLoss::ChunkedLoss(const proto::ModelConfig& config, const PartSetting& setting, int64_t loss_chunk,
                         const TokenTables& tables)
    : setting_(setting),
      head_(MakeHead({.config = config, .setting = setting, .tables = tables})),
      chunk_(std::max(std::min(loss_chunk, setting.batch.tokens()), head_->LeastChunk())),
      softmax_(setting, chunk_, LossFormOf(config)) {}

void ChunkedLoss::Place(TensorPlacer& placer) {
  softmax_.Place(setting_.Share(setting_.vocabulary).size() + head_->MoreClasses(), placer);
  head_->Place(chunk_, placer);
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
  stream_ = &stream;
  softmax_.Bind(region, stream);
  head_->Bind(parameters, region, stream);
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
