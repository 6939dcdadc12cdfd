#include "launch/run/validation.h"

#include <absl/types/span.h>

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "launch/run/agreed_stop.h"
#include "launch/run/recovery.h"
#include "runtime/data/batch_loader.h"
#include "runtime/fault_point.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// Counts tokens and those with the right answer: of all tokens, and of those whose symbol was seen.
struct TokenScores {
  double tokens = 0, right = 0, seen = 0, seen_right = 0;

  // `was_seen` is null if there are no symbols to tell apart.
  void Add(const std::vector<int32_t>& scores, const std::vector<int32_t>& targets, const std::vector<bool>* was_seen) {
    for (size_t n = 0; n < scores.size(); ++n) {
      tokens += 1;
      right += scores[n];
      if (was_seen == nullptr || !(*was_seen)[static_cast<size_t>(targets[n])]) continue;
      seen += 1;
      seen_right += scores[n];
    }
  }

  // Adds up those of all data ranks.
  absl::Status Sum(const Mesh& mesh) {
    double sums[] = {tokens, right, seen, seen_right};
    ISTHMUS_RETURN_IF_ERROR(mesh.data().AllReduceNumbers(absl::MakeSpan(sums)));
    *this = {sums[0], sums[1], sums[2], sums[3]};
    return absl::OkStatus();
  }
};

// Fills what scores say. Collective over the data ranks.
absl::Status FillAccuracy(RunParts& run, TokenScores scores, proto::ValidationRecord& record) {
  ISTHMUS_RETURN_IF_ERROR(scores.Sum(*run.mesh));
  record.set_accuracy(scores.right / scores.tokens);
  if (!run.seen.has_value()) return absl::OkStatus();
  const double unseen = scores.tokens - scores.seen;
  if (scores.seen > 0) record.set_seen_accuracy(scores.seen_right / scores.seen);
  if (unseen > 0) record.set_unseen_accuracy((scores.right - scores.seen_right) / unseen);
  record.set_seen_symbols(run.seen->SeenShare());
  record.set_sequences_per_symbol(run.seen->SequencesPerSymbol());
  return absl::OkStatus();
}

}  // namespace

int64_t ValidationBatches(const RunParts& run) {
  return std::clamp<int64_t>(run.data.validation.count / run.config.batch().sequences(), 1,
                             run.config.telemetry().validation_batches());
}

absl::StatusOr<std::optional<proto::ValidationRecord>> Validate(RunParts& run, bool last) {
  const int64_t batches = ValidationBatches(run);
  const bool scored = run.seen.has_value() || run.model->loss().scores_at_once();
  const std::vector<bool>* seen = run.seen.has_value() ? &run.seen->Seen() : nullptr;
  // The samples are the same each time, chosen by a fixed seed.
  BatchLoader loader(run.data.validation, {.sequences = run.config.batch().sequences(),
                                           .data_rank = run.mesh->data_rank(),
                                           .data_ranks = run.mesh->data_ranks(),
                                           .seed = 0,
                                           .prefetch = 2});
  double sum = 0;
  TokenScores scores;
  for (int64_t i = 0; i < batches; ++i) {
    FaultPoint("evaluate.batch");
    auto batch = loader.Next();
    if (const absl::Status status = AgreeOnStatus(run.world, batch.status()); !status.ok()) {
      return EndOfData(run, status);
    }
    ISTHMUS_ASSIGN_OR_RETURN(const TrainingModel::Evaluation found,
                             run.model->EvaluateTokens(batch->ids(), batch->targets(), scored));
    sum += found.loss;
    scores.Add(found.scores, batch->target_values, seen);
    loader.Recycle(*std::move(batch));
    if (last) continue;
    ISTHMUS_ASSIGN_OR_RETURN(const int stop, AgreedStop(run.signals, run.world));
    if (stop != 0) return std::nullopt;
  }
  proto::ValidationRecord record;
  record.set_loss(sum / static_cast<double>(batches));
  record.set_tokens(batches * TokensPerStep(run.config));
  if (scored) ISTHMUS_RETURN_IF_ERROR(FillAccuracy(run, scores, record));
  return record;
}

}  // namespace isthmus
