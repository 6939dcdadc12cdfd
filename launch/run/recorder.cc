#include "launch/run/recorder.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "launch/run/head_dump_files.h"
#include "launch/run/head_record.h"
#include "launch/run/run_data.h"
#include "launch/run/run_deadlines.h"
#include "launch/run/run_sinks.h"
#include "launch/run/step_record.h"
#include "parallel/deadline_scope.h"
#include "runtime/exit_status.h"
#include "runtime/status.h"

namespace isthmus {

Recorder::Recorder(const proto::RunConfig& config, Mesh& mesh, RankWatch& watch, RunMessages& messages,
                   std::unique_ptr<Sinks> sinks)
    : config_(config), mesh_(mesh), watch_(watch), messages_(messages), sinks_(std::move(sinks)) {}

void Recorder::Begin(const proto::RunRecord& facts, std::vector<ParameterGroupFigures> groups,
                     std::optional<int64_t> resumed_step) {
  facts_ = facts;
  groups_ = std::move(groups);
  resumed_step_ = resumed_step;
  if (resumed_step.has_value()) return;
  proto::TelemetryRecord record;
  record.set_step(0);
  record.set_timestamp_seconds(UnixSeconds());
  *record.mutable_run() = facts;
  HandOut(std::move(record));
}

absl::Status Recorder::DumpHead(int64_t step, HeadDump& dump, absl::Span<const uint64_t> counts) {
  const std::string folder = absl::StrFormat("%s/head-step-%08d", config_.folder(), step);
  absl::Status status;
  {
    // Rank 0 writes and flushes files that may have gigabytes.
    const DeadlineScope patience(mesh_, SetupDeadline(config_));
    status = WriteHeadDump(folder, dump, counts, mesh_);
  }
  if (ExitStatusOf(status.code()) == kExitRankFailed) return status;
  if (status.ok()) {
    messages_.log().Info("dumped the head's tensors to " + folder);
  } else {
    ++failed_dumps_;
    messages_.Say(absl::StrCat("the head's tensors of step ", step, " are not dumped: ", status.message()));
  }
  return absl::OkStatus();
}

void Recorder::Count(const TakenStep& taken) {
  stragglers_.AddStep(taken.result.seconds, watch_.whereabouts());
  CountStep(taken.seconds, step_times_);
}

void Recorder::TellOfHead(const HeadFigures& head) {
  const std::string& why = head.not_measured;
  if (why.empty() || mesh_.world().rank() != 0) return;
  if (!told_.insert(why.substr(0, why.find_first_of("0123456789"))).second) return;
  messages_.log().Warning("head not measured: " + why);
}

absl::Status Recorder::Record(const TakenStep& taken, const RunState& state, const Stability& stability) {
  const auto& schedule = config_.schedule();
  proto::TelemetryRecord record;
  if (taken.validation.has_value()) *record.mutable_validation() = *taken.validation;
  record.set_step(taken.step);
  record.set_tokens(state.tokens);
  record.set_elapsed_seconds(state.Elapsed());
  record.set_timestamp_seconds(UnixSeconds());
  auto& train = *record.mutable_train();
  train.set_loss(taken.result.loss);
  train.set_gradient_norm(taken.result.gradient_norm);
  train.set_learning_rate(taken.learning_rate);
  FillGroupRecords(groups_, taken.learning_rate, record);
  train.set_step_seconds(taken.seconds);
  const double tokens_per_second = static_cast<double>(TokensPerStep(config_)) / taken.seconds;
  train.set_tokens_per_second(tokens_per_second);
  if (!FillUtilisation(tokens_per_second, facts_, train) && told_.insert("peak").second) {
    messages_.Say(absl::StrCat("step ", taken.step, " was faster than the matrix product peak measured at the start, ",
                               "when the machine was busy: steps above it give no utilisation, and that of others is ",
                               "too high"));
  }
  stability.FillRecord(*record.mutable_stability());
  *record.mutable_token_gaps() = taken.gaps;
  ISTHMUS_RETURN_IF_ERROR(FillTimes(taken, record));
  if (taken.measured.has_value()) {
    FillHeadRecord(taken.measured->head, *record.mutable_head());
    if (const auto& visible = taken.measured->head.visible; visible.has_value()) {
      FillVisibleShares(*visible, *record.mutable_visible_share());
    }
    FillHeadLosses(taken.result.head_losses, record);
    FillLayerRecords(taken.measured->layers, record);
    if (taken.result.decrease.has_value()) FillUpdateRecords(*taken.result.decrease, record);
  }
  double remaining =
      record.elapsed_seconds() / static_cast<double>(taken.step) * static_cast<double>(schedule.steps() - taken.step);
  if (schedule.max_seconds() > 0) remaining = std::min(remaining, schedule.max_seconds() - record.elapsed_seconds());
  messages_.Update(record, taken.last ? 0 : remaining, taken.last);
  if (failed_dumps_ > 0) record.mutable_sinks()->set_head_dump_failed_total(failed_dumps_);
  if (resumed_step_.has_value()) {
    *record.mutable_run() = facts_;
    record.mutable_run()->set_resumed_step(*std::exchange(resumed_step_, std::nullopt));
  }
  record_ = std::move(record);
  return absl::OkStatus();
}

absl::Status Recorder::FillTimes(const TakenStep& taken, proto::TelemetryRecord& record) {
  Communicator& world = mesh_.world();
  const StepSeconds& seconds = taken.result.seconds;
  ISTHMUS_RETURN_IF_ERROR(FillTimeRecord(seconds, world, *record.mutable_time()));
  if (world.size() > 1) {
    ISTHMUS_ASSIGN_OR_RETURN(const std::vector<std::string> warnings, stragglers_.FillRecord(world, record));
    for (const std::string& warning : warnings) messages_.log().Warning(warning);
    record.mutable_ranks()->set_stale_heartbeats_total(watch_.stale_heartbeats());
  }
  *record.mutable_time()->mutable_step_seconds() = std::exchange(step_times_, {});
  if (EveryRankIsShown(config_)) {
    FillRankRecord(seconds, mesh_, world.rank(), *record.mutable_rank());
  }
  return absl::OkStatus();
}

void Recorder::RecordHalt(int64_t step, const StepFigures& figures, const RunState& state, const Stability& stability) {
  record_.Clear();
  record_.set_step(step);
  record_.set_tokens(step * TokensPerStep(config_));
  record_.set_elapsed_seconds(state.Elapsed());
  record_.set_timestamp_seconds(UnixSeconds());
  record_.mutable_train()->set_loss(figures.loss);
  record_.mutable_train()->set_gradient_norm(figures.gradient_norm);
  stability.FillRecord(*record_.mutable_stability());
}

void Recorder::Publish(RunCheckpoints& checkpoints) {
  if (!record_.has_step()) return;
  checkpoints.FillRecord(record_);
  if (const int64_t failed = record_.checkpoint().failed_total(); failed > noted_failures_) {
    noted_failures_ = failed;
    messages_.Show("a checkpoint could not be saved; the log says why");
  }
  HandOut(std::exchange(record_, {}));
}

void Recorder::HandOut(proto::TelemetryRecord record) {
  if (mesh_.world().rank() != 0) {
    if (!record.has_rank()) return;
    proto::TelemetryRecord own;
    *own.mutable_rank() = std::move(*record.mutable_rank());
    record = std::move(own);
  }
  sinks_->Publish(std::move(record));
}

void Recorder::TellNotes() {
  for (const std::string& note : sinks_->TakeNotes()) messages_.Note(note);
}

void Recorder::Close() {
  sinks_->Close(Sinks::kCloseDeadline);
  TellNotes();
}

void Recorder::Forget() {
  record_.Clear();
  step_times_.Clear();
}

void Recorder::GoOn(std::unique_ptr<Sinks> sinks, int64_t resumed_step) {
  sinks_ = std::move(sinks);
  resumed_step_ = resumed_step;
}

}  // namespace isthmus
