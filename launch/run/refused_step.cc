// What a run does with a step that was not applied: config.stability.
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_split.h>

#include <utility>
#include <vector>

#include "checkpoint/manifest.h"
#include "launch/run/run_sinks.h"
#include "launch/run/step_record.h"
#include "launch/run/training_run.h"
#include "parallel/host_bytes.h"
#include "runtime/exit_status.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// Names of tensors have no line breaks.
std::string Packed(const NonFiniteTensors& found) {
  return absl::StrCat(found.weight, "\n", found.activation, "\n", found.loss ? "1" : "0", "\n", found.gradient);
}

NonFiniteTensors Unpacked(const std::string& text) {
  const std::vector<std::string> fields = absl::StrSplit(text, '\n');
  return {.weight = fields[0], .activation = fields[1], .loss = fields[2] == "1", .gradient = fields[3]};
}

constexpr char kCalmer[] = "training diverged: lower optimizer.learning_rate, lengthen schedule.warmup_steps";

// What a user can change so that such a step doesn't end the run.
std::string Remedy(const proto::RunConfig& config, bool spike) {
  std::string text = kCalmer;
  if (config.precision().compute() == proto::PrecisionConfig::BF16) text += ", use precision.compute FP32";
  if (!spike && config.stability().non_finite().policy() == proto::NonFiniteConfig::HALT) {
    return text + ", or let such steps be passed over (stability.non_finite.policy SKIP or ROLLBACK)";
  }
  if (spike) text += ", raise stability.spike.loss_threshold and gradient_norm_threshold";
  return text + ", or let more of them be passed over (stability.max_in_a_row, stability.max_in_window)";
}

}  // namespace

void TrainingRun::Say(const std::string& text) {
  log_->Warning(text);
  if (world_.rank() == 0) progress_->Note(text);
}

absl::StatusOr<std::string> TrainingRun::DescribeUnsoundStep(const StepFigures& figures, bool& weights_finite) {
  const bool finite = figures.finite();
  const auto mine = !finite ? model_->FindNonFinite() : figures.too_large ? model_->FindLargest() : model_->FindZero();
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world_, mine.status()));
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<std::string> all, AllGatherBytes(world_, Packed(*mine)));
  std::vector<NonFiniteTensors> found;
  for (const std::string& text : all) {
    found.push_back(Unpacked(text));
    weights_finite = weights_finite && (finite || found.back().weight.empty());
  }
  const char* what = !finite             ? "not finite; "
                     : figures.too_large ? "too large to be squared or clipped in fp32; the largest part: "
                                         : "all of it lost to overflow or underflow; zero throughout: ";
  return absl::StrCat(what, DescribeNonFinite(found));
}

absl::Status TrainingRun::Refuse(int64_t step, int64_t batch, const StepResult& result) {
  // A run that halts has not passed the refusal: continued, it meets the step again, and counts it then.
  const TrainingMoment before = Moment();
  const Stability::Verdict verdict = stability_->Refused(step, batch, result);
  std::string what =
      absl::StrFormat("step %d, batch %d: loss %g, gradient norm %g", step, batch, result.loss, result.gradient_norm);
  bool weights_finite = true;
  if (!verdict.finite) {
    ISTHMUS_ASSIGN_OR_RETURN(const std::string places, DescribeUnsoundStep(result, weights_finite));
    absl::StrAppend(&what, ", ", places);
  }
  if (!verdict.reason.empty()) absl::StrAppend(&what, "; ", verdict.reason);
  switch (verdict.action) {
    case Stability::Action::kHalt:
      return Halt(step, result, before, weights_finite, absl::StrCat(what, "; ", Remedy(config_, verdict.finite)));
    case Stability::Action::kSkip:
      position_ = batch;
      Say(absl::StrCat(what, "; the batch is passed over"));
      return absl::OkStatus();
    case Stability::Action::kRollback:
      break;
  }
  Say(absl::StrCat(what, "; rolling back"));
  ISTHMUS_RETURN_IF_ERROR(checkpoints_->Wait());
  mesh_->set_deadline(absl::Seconds(config_.mesh().setup_timeout_seconds()));
  auto plan = PlanRollback(plan_, config_.folder(), world_);
  if (plan.ok()) {
    plan_ = *std::move(plan);
    return RollBack();
  }
  if (ExitStatusOf(plan.status().code()) == kExitRankFailed) return plan.status();
  // The weights are still those before the step.
  const absl::Status halted =
      Halt(step, result, before, weights_finite, absl::StrCat(what, "; can't roll back: ", plan.status().message()));
  return absl::IsAborted(halted) ? absl::Status(plan.status().code(), halted.message()) : halted;
}

absl::StatusOr<std::string> TrainingRun::KeepState(const TrainingMoment& moment, bool savable) {
  ISTHMUS_RETURN_IF_ERROR(checkpoints_->Wait());
  if (!checkpoints_->newest().empty()) summary_.checkpoint = checkpoints_->newest();
  const auto& checkpoint = config_.checkpoint();
  const bool there = summary_.checkpoint == CheckpointFolder(config_.folder(), moment.step);
  std::string failure;
  if (savable && !there && moment.step > 0 && (checkpoint.interval() > 0 || checkpoint.save_final())) {
    const absl::Status status = checkpoints_->Save(moment, /*at_once=*/true);
    if (ExitStatusOf(status.code()) == kExitRankFailed) return status;
    if (status.ok()) summary_.checkpoint = checkpoints_->newest();
    if (!status.ok()) failure = absl::StrCat("no checkpoint of step ", moment.step, ": ", status.message(), "; ");
  }
  return absl::StrCat(failure, summary_.checkpoint.empty() ? "there is no checkpoint"
                                                           : "the newest checkpoint is " + summary_.checkpoint);
}

absl::Status TrainingRun::EndOfData(const absl::Status& error) {
  if (ExitStatusOf(error.code()) == kExitRankFailed) return error;
  ISTHMUS_ASSIGN_OR_RETURN(const std::string saved, KeepState(Moment(), /*savable=*/true));
  return absl::Status(error.code(), absl::StrCat(error.message(), "; training ended after step ", summary_.steps, "; ",
                                                 saved, "; start again with --resume auto when the data are sound"));
}

absl::Status TrainingRun::Halt(int64_t step, const StepResult& result, const TrainingMoment& before, bool savable,
                               const std::string& what) {
  ISTHMUS_ASSIGN_OR_RETURN(const std::string saved, KeepState(before, savable));
  // The last record tells why there is none after it.
  record_.Clear();
  record_.set_step(step);
  record_.set_tokens(step * TokensPerStep());
  record_.set_elapsed_seconds(Elapsed());
  record_.set_timestamp_seconds(UnixSeconds());
  record_.mutable_train()->set_loss(result.loss);
  record_.mutable_train()->set_gradient_norm(result.gradient_norm);
  stability_->FillRecord(*record_.mutable_stability());
  return absl::AbortedError(absl::StrCat(what, "; nothing of the step was applied; ", saved));
}

absl::Status TrainingRun::RollBack() {
  proto::StabilityState then;
  if (!plan_.candidates.empty()) {
    if (const absl::Status status = RestoreState(); !status.ok()) {
      if (ExitStatusOf(status.code()) == kExitRankFailed || MayBeSound(status)) return status;
      return absl::AbortedError(absl::StrCat("can't roll back: ", status.message(), "; ", kCalmer));
    }
    then = restored_->stability();
  } else {
    ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world_, model_->InitializeWeights(config_.seed())));
    position_ = summary_.steps = summary_.tokens = 0;
    restored_folder_.clear();
  }
  ISTHMUS_RETURN_IF_ERROR(SetAsideLaterCheckpoints());
  stability_->GoBack(then);
  // Records of steps that are taken again would be there twice.
  sinks_->Close(Sinks::kCloseDeadline);
  LogNotes();
  record_.Clear();
  step_times_.Clear();
  auto sinks = OpenSinks(config_, world_.rank(), local_rank_,
                         {.first_step = summary_.steps + 1, .continued = true, .while_training = true});
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world_, sinks.status()));
  sinks_ = *std::move(sinks);
  resumed_run_ = run_facts_;
  resumed_run_.set_resumed_step(summary_.steps);
  OpenLoader();
  mesh_->set_deadline(absl::Seconds(config_.mesh().collective_timeout_seconds()));
  Say(absl::StrCat("rolled back to step ", summary_.steps, "; goes on with batch ", position_ + 1));
  return absl::OkStatus();
}

}  // namespace isthmus
