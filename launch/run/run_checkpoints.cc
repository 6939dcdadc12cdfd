#include "launch/run/run_checkpoints.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>

#include <utility>
#include <vector>

#include "checkpoint/manifest.h"
#include "checkpoint/rotation.h"
#include "checkpoint/staging.h"
#include "launch/run/run_deadlines.h"
#include "launch/run/step_record.h"
#include "parallel/deadline_scope.h"
#include "runtime/caught.h"
#include "runtime/exit_status.h"
#include "runtime/monotonic.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

CheckpointContents ContentsOf(const proto::RunConfig& config, const RunData& data, const TrainingMoment& moment) {
  CheckpointContents contents;
  contents.tokenizer_model = data.tokenizer_model;
  contents.clusters = data.tables.clusters;
  auto& manifest = contents.manifest;
  manifest.set_step(moment.step);
  manifest.set_samples(moment.batches * config.batch().sequences());
  manifest.set_tokens(moment.tokens);
  manifest.set_elapsed_seconds(moment.elapsed_seconds);
  manifest.set_training_samples(data.training.count);
  manifest.set_training_shards(data.training.source->fingerprint());
  manifest.set_tokenizer_fingerprint(data.training.source->tokenizer_fingerprint());
  if (moment.validation_loss.has_value()) manifest.set_validation_loss(*moment.validation_loss);
  *manifest.mutable_stability() = moment.stability;
  manifest.mutable_untrained_batches()->Assign(moment.untrained.begin(), moment.untrained.end());
  *manifest.mutable_config() = config;
  return contents;
}

}  // namespace

absl::Status RunCheckpoints::Reserve() {
  if (!SavesInBackground(config_.checkpoint())) return absl::OkStatus();
  return background_.Reserve(model_.parameters(), model_.optimizer());
}

bool RunCheckpoints::Due(int64_t step, bool last) const {
  const auto& checkpoint = config_.checkpoint();
  if (last) return checkpoint.save_final();
  return checkpoint.interval() > 0 && step % checkpoint.interval() == 0;
}

absl::Status RunCheckpoints::Save(const TrainingMoment& moment, bool at_once) {
  ISTHMUS_RETURN_IF_ERROR(Wait());
  step_ = moment.step;
  begin_ = MonotonicSeconds();
  const std::string folder = CheckpointFolder(config_.folder(), step_);
  CheckpointContents contents = ContentsOf(config_, data_, moment);
  ISTHMUS_ASSIGN_OR_RETURN(contents.token_gaps, gaps_.State());
  const bool background = config_.checkpoint().background() && !at_once;
  absl::StatusOr<SavedCheckpoint> saved;
  absl::Status started;
  {
    const DeadlineScope patience(mesh_, SetupDeadline(config_));
    if (background) {
      started = background_.Start(folder, contents, model_.parameters(), model_.optimizer(), [this] { Tidy(); });
    } else {
      saved = SaveAndTidy(folder, contents);
    }
  }
  wait_seconds_ = MonotonicSeconds() - begin_;
  if (background) return started.ok() ? started : Fail(started, false);
  if (!saved.ok()) return Fail(saved.status(), at_once);
  Succeed(*saved);
  return absl::OkStatus();
}

absl::StatusOr<SavedCheckpoint> RunCheckpoints::SaveAndTidy(const std::string& folder,
                                                            const CheckpointContents& contents) {
  ISTHMUS_ASSIGN_OR_RETURN(const SavedCheckpoint saved,
                           SaveCheckpoint(folder, contents, model_.parameters(), mesh_, &model_.optimizer()));
  if (mesh_.world().rank() == 0) Tidy();
  // Removing old checkpoints may take long, too. The others wait here, and not in a step, which has a shorter deadline.
  ISTHMUS_RETURN_IF_ERROR(mesh_.world().Barrier());
  return saved;
}

absl::Status RunCheckpoints::Poll() { return Poll(false); }

absl::Status RunCheckpoints::Wait() {
  if (!background_.pending()) return absl::OkStatus();
  const double begin = MonotonicSeconds();
  const DeadlineScope patience(mesh_, SetupDeadline(config_));
  const absl::Status status = Poll(true);
  if (record_.has_value()) record_->set_wait_seconds(record_->wait_seconds() + MonotonicSeconds() - begin);
  return status;
}

absl::Status RunCheckpoints::Poll(bool wait) {
  const auto outcome = background_.Poll(wait);
  if (!outcome.ok()) return Fail(outcome.status(), false);
  if (outcome->has_value()) Succeed(**outcome);
  return absl::OkStatus();
}

void RunCheckpoints::Tidy() {
  std::vector<std::string> said;
  const absl::Status tidied = Caught([&] {
    const auto pointed = PointToLatest(config_.folder(), step_);
    said.emplace_back(pointed.ok() ? *pointed : std::string(pointed.status().message()));
    said.emplace_back(RotateCheckpoints(config_.folder(), config_.checkpoint()).message());
    return absl::OkStatus();
  });
  if (!tidied.ok()) said.emplace_back(absl::StrCat("can't tidy up after a checkpoint: ", tidied.message()));
  std::erase(said, "");
  tidied_ = absl::StrJoin(said, "\n");
}

void RunCheckpoints::Succeed(const SavedCheckpoint& saved) {
  newest_ = CheckpointFolder(config_.folder(), step_);
  // Keep the wait time of an earlier checkpoint that no record has reported yet.
  const double waited = record_.has_value() ? record_->wait_seconds() : 0;
  proto::CheckpointRecord& record = record_.emplace();
  record.set_step(step_);
  record.set_timestamp_seconds(UnixSeconds());
  record.set_save_seconds(MonotonicSeconds() - begin_);
  record.set_saved_bytes(saved.bytes);
  record.set_wait_seconds(waited + wait_seconds_);
  if (failed_ > 0) record.set_failed_total(failed_);
  log_.Info("saved " + newest_);
  if (!saved.finite) log_.Warning(newest_ + ": holds values that are not finite");
  // A lasting state is reported once.
  if (std::string tidied = std::exchange(tidied_, ""); tidied != told_) {
    for (const auto line : absl::StrSplit(tidied, '\n', absl::SkipEmpty())) log_.Warning(std::string(line));
    told_ = std::move(tidied);
  }
}

absl::Status RunCheckpoints::Fail(const absl::Status& status, bool fatal) {
  if (!record_.has_value()) record_.emplace();  // what is yet to be told of an earlier one stays
  record_->set_failed_total(++failed_);
  // The ranks agree on what failed: a file on one of them, or the collective itself.
  if (fatal || ExitStatusOf(status.code()) == kExitRankFailed) return status;
  log_.Error(absl::StrCat("no checkpoint of step ", step_, ": ", status.message()));
  return absl::OkStatus();
}

void RunCheckpoints::FillRecord(proto::TelemetryRecord& record) {
  if (record_.has_value()) *record.mutable_checkpoint() = *std::exchange(record_, std::nullopt);
  if (background_.pending()) {
    record.mutable_checkpoint()->set_written_ratio(background_.written_ratio());
  } else if (record.checkpoint().has_step()) {
    record.mutable_checkpoint()->set_written_ratio(1);
  }
}

}  // namespace isthmus
