#include "launch/run/training_run.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "launch/run/agreed_stop.h"
#include "launch/run/head_dump_files.h"
#include "launch/run/head_record.h"
#include "launch/run/run_sinks.h"
#include "launch/run/step_record.h"
#include "model/measure/spectrum_finder.h"
#include "model/train/schedule.h"
#include "runtime/exit_status.h"
#include "runtime/fault_point.h"
#include "runtime/monotonic.h"
#include "runtime/status.h"

namespace isthmus {
double TrainingRun::Elapsed() const { return MonotonicSeconds() - start_seconds_; }

absl::StatusOr<double> TrainingRun::AgreedElapsed() {
  double elapsed = Elapsed();
  ISTHMUS_RETURN_IF_ERROR(world_.Broadcast(Tensor(&elapsed, DType::kFloat64, 1, 1), 0));
  return elapsed;
}

// A set smaller than a batch is seen more than once; of a larger one every sample at most once.
int64_t TrainingRun::ValidationBatches() const {
  return std::clamp<int64_t>(data_.validation.count / config_.batch().sequences(), 1,
                             config_.telemetry().validation_batches());
}

absl::StatusOr<std::optional<double>> TrainingRun::ValidationLoss(bool last) {
  const int64_t sequences = config_.batch().sequences(), batches = ValidationBatches();
  // The same samples each time, chosen by a fixed seed.
  BatchLoader loader(data_.validation, {.sequences = sequences,
                                        .data_rank = mesh_->data_rank(),
                                        .data_ranks = mesh_->data_ranks(),
                                        .seed = 0,
                                        .prefetch = 2});
  double sum = 0;
  for (int64_t i = 0; i < batches; ++i) {
    FaultPoint("evaluate.batch");
    auto batch = loader.Next();
    if (const absl::Status status = AgreeOnStatus(world_, batch.status()); !status.ok()) return EndOfData(status);
    ISTHMUS_ASSIGN_OR_RETURN(const double loss, model_->Evaluate(batch->ids(), batch->targets()));
    sum += loss;
    loader.Recycle(*std::move(batch));
    if (last) continue;
    ISTHMUS_ASSIGN_OR_RETURN(const int stop, AgreedStop(signals_, world_));
    if (stop != 0) return std::nullopt;
  }
  return sum / static_cast<double>(batches);
}

absl::Status TrainingRun::DumpHead(int64_t step, HeadDump& dump) {
  const std::string folder = absl::StrFormat("%s/head-step-%08d", config_.folder(), step);
  // Rank 0 writes and flushes what may be gigabytes.
  mesh_->set_deadline(absl::Seconds(config_.mesh().setup_timeout_seconds()));
  const absl::Status status = WriteHeadDump(folder, dump, Counts(), *mesh_);
  mesh_->set_deadline(absl::Seconds(config_.mesh().collective_timeout_seconds()));
  if (ExitStatusOf(status.code()) == kExitRankFailed) return status;
  if (status.ok()) {
    log_->Info("dumped the head's tensors to " + folder);
  } else {
    ++failed_dumps_;
    Say(absl::StrCat("the head's tensors of step ", step, " are not dumped: ", status.message()));
  }
  return absl::OkStatus();
}

absl::Status TrainingRun::TrainStep(int64_t step, bool& last) {
  FaultPoint("step.begin");
  const auto& telemetry = config_.telemetry();
  const auto& schedule = config_.schedule();
  log_->set_step(step);
  watch_.whereabouts().set_step(step);
  watch_.whereabouts().Enter("between phases");
  const auto due = [&](int64_t interval) { return interval > 0 && step % interval == 0; };
  double elapsed = 0;
  if (schedule.max_seconds() > 0) {
    ISTHMUS_ASSIGN_OR_RETURN(elapsed, AgreedElapsed());
  }
  const double learning_rate = LearningRate(schedule, config_.optimizer().learning_rate(), step, elapsed);
  const bool dump_head = step == telemetry.dump_step();
  const bool measure_head =
      dump_head || (telemetry.interval() > 0 && (due(telemetry.interval()) || step == schedule.steps()));

  const double begin = MonotonicSeconds();
  watch_.whereabouts().Enter("data");
  FaultPoint("step.data");
  auto batch = loader_->Next();
  watch_.whereabouts().Enter("between phases");
  const double data_seconds = MonotonicSeconds() - begin;
  if (const absl::Status status = AgreeOnStatus(world_, batch.status()); !status.ok()) return EndOfData(status);
  HeadDump dump;
  const auto accept = [this](const StepFigures& figures) { return stability_->Accepts(figures); };
  // Rank 0 then waits for the spectrum of a large sample, and the other ranks wait for it.
  const bool waits_for_spectrum =
      measure_head && (dump_head || step == schedule.steps()) && telemetry.sample_tokens() > kSpectrumWithinAStep;
  if (waits_for_spectrum) mesh_->set_deadline(absl::Seconds(config_.mesh().setup_timeout_seconds()));
  ISTHMUS_ASSIGN_OR_RETURN(const StepResult result, model_->Step({.ids = batch->ids(),
                                                                  .targets = batch->targets(),
                                                                  .step = step,
                                                                  .learning_rate = learning_rate,
                                                                  .measure = measure_head,
                                                                  .dump = dump_head ? &dump : nullptr,
                                                                  .accept = accept,
                                                                  .last = step == schedule.steps()}));
  if (waits_for_spectrum) {
    ISTHMUS_RETURN_IF_ERROR(world_.Barrier());
    mesh_->set_deadline(absl::Seconds(config_.mesh().collective_timeout_seconds()));
  }
  const int64_t number = batch->number;
  loader_->Recycle(*std::move(batch));
  if (!result.applied) return Refuse(step, number, result);
  stability_->Applied(result);
  position_ = number;
  if (dump_head) ISTHMUS_RETURN_IF_ERROR(DumpHead(step, dump));
  const double step_seconds = MonotonicSeconds() - begin;
  stragglers_.AddStep(result.seconds, data_seconds, watch_.whereabouts());
  CountStep(step_seconds, step_times_);

  for (const std::string& note : stream_.TakeNotes()) log_->Info(note);
  LogNotes();

  last = step == schedule.steps();
  if (!last && schedule.max_seconds() > 0) {
    ISTHMUS_ASSIGN_OR_RETURN(elapsed, AgreedElapsed());
    last = elapsed >= schedule.max_seconds();
  }
  summary_.steps = step;
  summary_.tokens = step * TokensPerStep();
  summary_.train_loss = result.loss;
  if (result.head.has_value()) {
    summary_.head = result.head;
    const std::string& why = result.head->not_measured;
    if (!why.empty() && world_.rank() == 0 &&
        told_of_head_.insert(why.substr(0, why.find_first_of("0123456789"))).second) {
      log_->Warning("head not measured: " + why);
    }
  }

  const bool validate = last || due(telemetry.validation_interval());
  proto::TelemetryRecord record;
  if (validate) {
    watch_.whereabouts().Enter("evaluation");
    ISTHMUS_ASSIGN_OR_RETURN(const std::optional<double> loss, ValidationLoss(last));
    if (loss.has_value()) {
      summary_.validation_loss = *loss;
      record.mutable_validation()->set_loss(*loss);
      record.mutable_validation()->set_tokens(ValidationBatches() * TokensPerStep());
    } else {
      log_->Info("no validation of this step: a signal ended it");
    }
  }
  if (!last && !validate && !measure_head && !due(telemetry.log_interval()) && !checkpoints_->Due(step, last)) {
    return absl::OkStatus();
  }

  const double tokens_per_second = static_cast<double>(TokensPerStep()) / step_seconds;
  record.set_step(step);
  record.set_tokens(summary_.tokens);
  record.set_elapsed_seconds(Elapsed());
  record.set_timestamp_seconds(UnixSeconds());
  auto& train = *record.mutable_train();
  train.set_loss(result.loss);
  train.set_gradient_norm(result.gradient_norm);
  train.set_learning_rate(learning_rate);
  FillGroupRecords(model_->optimizer().groups(), learning_rate, record);
  train.set_step_seconds(step_seconds);
  train.set_tokens_per_second(tokens_per_second);
  if (!FillUtilisation(tokens_per_second, causal_flops_per_token_, full_flops_per_token_, peak_flops_, train) &&
      !std::exchange(told_of_peak_, true)) {
    Say(absl::StrCat("step ", step, " was faster than the matrix product peak measured at the start, when the machine ",
                     "was busy: steps above it give no utilisation, and that of others is too high"));
  }
  stability_->FillRecord(*record.mutable_stability());
  ISTHMUS_RETURN_IF_ERROR(FillTimeRecord(result.seconds, data_seconds, world_, *record.mutable_time()));
  ISTHMUS_RETURN_IF_ERROR(FillRanks(record));
  *record.mutable_time()->mutable_step_seconds() = std::exchange(step_times_, {});
  if (result.head.has_value()) {
    FillHeadRecord(*result.head, *record.mutable_head());
    FillLayerRecords(result.layer_gradient_norms, record);
  }
  if (EveryRankIsShown(config_)) {
    FillRankRecord(result.seconds, data_seconds, *mesh_, world_.rank(), *record.mutable_rank());
  }
  if (world_.rank() == 0) {
    double remaining =
        record.elapsed_seconds() / static_cast<double>(step) * static_cast<double>(schedule.steps() - step);
    if (schedule.max_seconds() > 0) remaining = std::min(remaining, schedule.max_seconds() - record.elapsed_seconds());
    progress_->Update(record, last ? 0 : remaining, last);
  }
  if (failed_dumps_ > 0) record.mutable_sinks()->set_head_dump_failed_total(failed_dumps_);
  if (resumed_run_.has_version()) record.mutable_run()->Swap(&resumed_run_);
  record_ = std::move(record);
  return absl::OkStatus();
}

absl::Status TrainingRun::FillRanks(proto::TelemetryRecord& record) {
  if (world_.size() == 1) return absl::OkStatus();
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<std::string> warnings, stragglers_.FillRecord(world_, record));
  for (const std::string& warning : warnings) log_->Warning(warning);
  record.mutable_ranks()->set_stale_heartbeats_total(watch_.stale_heartbeats());
  return absl::OkStatus();
}

void TrainingRun::Publish(proto::TelemetryRecord record) {
  if (world_.rank() != 0) {
    if (!record.has_rank()) return;
    proto::TelemetryRecord own;
    *own.mutable_rank() = std::move(*record.mutable_rank());
    record = std::move(own);
  }
  sinks_->Publish(std::move(record));
}

void TrainingRun::LogNotes() {
  for (const std::string& note : sinks_->TakeNotes()) {
    const int64_t dropped = log_->dropped();
    log_->Info(note);
    // The log can't take the note if the disk is full, so the note goes to the progress output.
    if (world_.rank() == 0 && log_->dropped() > dropped) progress_->Note(note);
  }
}

TrainingMoment TrainingRun::Moment() const {
  TrainingMoment moment{.step = summary_.steps,
                        .tokens = summary_.tokens,
                        .batches = position_,
                        .elapsed_seconds = Elapsed(),
                        .stability = stability_->state()};
  if (record_.has_validation()) moment.validation_loss = summary_.validation_loss;
  return moment;
}

void TrainingRun::PublishRecord() {
  if (!record_.has_step()) return;
  checkpoints_->FillRecord(record_);
  if (const int64_t failed = record_.checkpoint().failed_total(); failed > noted_failures_) {
    noted_failures_ = failed;
    if (world_.rank() == 0) progress_->Note("a checkpoint could not be saved; the log says why");
  }
  Publish(std::exchange(record_, {}));
}

absl::Status TrainingRun::StoppedUnsaved(int signal, const absl::Status& error) {
  if (ExitStatusOf(error.code()) == kExitRankFailed) return error;
  if (!checkpoints_->newest().empty()) summary_.checkpoint = checkpoints_->newest();
  const std::string newest =
      summary_.checkpoint.empty() ? "there is no checkpoint" : "the newest checkpoint is " + summary_.checkpoint;
  return WorthAnotherStart(
      absl::Status(error.code(), absl::StrCat("stopped by ", SignalName(signal), ", but step ", summary_.steps,
                                              " could not be saved: ", error.message(), "; ", newest)));
}

absl::Status TrainingRun::TrainSteps() {
  const double elapsed = restored_.has_value() ? restored_->elapsed_seconds() : 0;
  start_seconds_ = MonotonicSeconds() - elapsed;
  const auto& schedule = config_.schedule();
  bool last = summary_.steps >= schedule.steps() || (schedule.max_seconds() > 0 && elapsed >= schedule.max_seconds());
  summary_.already_complete = last;
  if (!last) ISTHMUS_RETURN_IF_ERROR(EndIfStopped(signals_, world_, "everything was set up"));
  while (!last) {
    const int64_t step = summary_.steps + 1;
    ISTHMUS_RETURN_IF_ERROR(TrainStep(step, last));
    watch_.whereabouts().Enter("between steps");
    FaultPoint("step.end");
    if (summary_.steps != step) continue;  // refused
    ISTHMUS_RETURN_IF_ERROR(checkpoints_->Poll());
    ISTHMUS_ASSIGN_OR_RETURN(const int stop, AgreedStop(signals_, world_));
    const bool ends = last || stop != 0;
    if (checkpoints_->Due(step, last) || (stop != 0 && !last)) {
      watch_.whereabouts().Enter("saving a checkpoint");
      const TrainingMoment moment = Moment();
      // A run that is killed once the checkpoint is complete does not make the step's record again.
      if (!ends) PublishRecord();
      const absl::Status saved = checkpoints_->Save(moment, ends);
      if (!saved.ok() && !last && stop != 0) return StoppedUnsaved(stop, saved);
      ISTHMUS_RETURN_IF_ERROR(saved);
    }
    if (!last && stop != 0) {
      return absl::CancelledError(absl::StrCat("stopped by ", SignalName(stop), " after step ", step, "; saved ",
                                               checkpoints_->newest(), "; start again with --resume auto"));
    }
    if (!last) PublishRecord();
  }
  return CheckLastUpdate();
}

// Each step checks the weights that the step before it made. Only the last validation checks the last weights.
absl::Status TrainingRun::CheckLastUpdate() const {
  if (std::isfinite(summary_.validation_loss)) return absl::OkStatus();
  return absl::AbortedError(absl::StrCat("validation loss ", summary_.validation_loss, " after step ", summary_.steps,
                                         ", the last: its update has made a model that is not finite; lower "
                                         "optimizer.learning_rate, or set schedule.steps to ",
                                         summary_.steps - 1, " and go on from an older checkpoint"));
}

absl::Status TrainingRun::Train() {
  ISTHMUS_RETURN_IF_ERROR(world_.Barrier());
  absl::Status status = TrainSteps();
  watch_.whereabouts().Enter("ending");
  // What has been begun is ended, whatever ended training, but for a rank that is lost.
  if (ExitStatusOf(status.code()) != kExitRankFailed) status.Update(checkpoints_->Wait());
  if (!checkpoints_->newest().empty()) summary_.checkpoint = checkpoints_->newest();
  PublishRecord();
  summary_.seconds = Elapsed();
  sinks_->Close(Sinks::kCloseDeadline);
  LogNotes();
  if (absl::IsCancelled(status)) {
    log_->Info(std::string(status.message()));
    return status;
  }
  if (!status.ok()) {
    log_->Error(std::string(status.message()));
    return status;
  }
  if (summary_.already_complete) {
    log_->Info(absl::StrCat("nothing left to train: the run is complete since step ", summary_.steps));
    return absl::OkStatus();
  }
  log_->Info(absl::StrFormat("done: %d steps in %.1f s, loss %.6f, validation loss %.6f", summary_.steps,
                             summary_.seconds, summary_.train_loss, summary_.validation_loss));
  return absl::OkStatus();
}

}  // namespace isthmus
