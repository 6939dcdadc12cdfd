#include "launch/run/recovery.h"

#include <absl/status/statusor.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/manifest.h"
#include "launch/run/restored_state.h"
#include "launch/run/run_deadlines.h"
#include "launch/run/run_sinks.h"
#include "parallel/deadline_scope.h"
#include "parallel/host_bytes.h"
#include "proto/exchange.pb.h"
#include "runtime/exit_status.h"
#include "runtime/status.h"
#include "runtime/stop_signals.h"

namespace isthmus {
namespace {

constexpr char kCalmer[] = "training diverged: lower optimizer.learning_rate, lengthen schedule.warmup_steps";

// Names settings by which such a step does not end the run.
std::string Remedy(const proto::RunConfig& config, bool spike) {
  std::string text = kCalmer;
  if (config.precision().compute() == proto::PrecisionConfig::BF16) text += ", use precision.compute FP32";
  if (!spike && config.stability().non_finite().policy() == proto::NonFiniteConfig::HALT) {
    return text + ", or let such steps be passed over (stability.non_finite.policy SKIP or ROLLBACK)";
  }
  if (spike) text += ", raise stability.spike.loss_threshold and gradient_norm_threshold";
  return text + ", or let more of them be passed over (stability.max_in_a_row, stability.max_in_window)";
}

// Gathers every rank's findings, by rank. Collective.
absl::StatusOr<std::vector<NonFiniteTensors>> GatherFound(const NonFiniteTensors& mine, Communicator& world) {
  proto::NonFiniteTensors message;
  message.set_weight(mine.weight);
  message.set_activation(mine.activation);
  message.set_loss(mine.loss);
  message.set_gradient(mine.gradient);
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<std::string> all, AllGatherBytes(world, message.SerializeAsString()));
  std::vector<NonFiniteTensors> found;
  for (const std::string& bytes : all) {
    if (!message.ParseFromString(bytes)) return absl::InternalError("what a rank found in a step can't be read");
    found.push_back({.weight = message.weight(),
                     .activation = message.activation(),
                     .loss = message.loss(),
                     .gradient = message.gradient()});
  }
  return found;
}

// This is a step that is not to be applied.
struct Refusal {
  int64_t step = 0;
  StepFigures figures;
  TrainingMoment before;  // the refusal: what to save
  bool savable = true;    // false if a weight is not finite
  std::string what;       // for people: the step, its figures, and the ranks where they went wrong
};

// Tells of the newest checkpoint.
std::string DescribeNewest(RunParts& run) {
  const std::string& newest = NewestCheckpoint(run);
  return newest.empty() ? "there is no checkpoint" : "the newest checkpoint is " + newest;
}

// Tells where on the ranks a step was not sound. Sets `weights_finite`. Collective.
absl::StatusOr<std::string> DescribeUnsoundStep(RunParts& run, const StepFigures& figures, bool& weights_finite) {
  const bool finite = figures.finite();
  const auto mine = !finite             ? run.model->FindNonFinite()
                    : figures.too_large ? run.model->FindLargest()
                                        : run.model->FindZero();
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(run.world, mine.status()));
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<NonFiniteTensors> found, GatherFound(*mine, run.world));
  weights_finite =
      finite || std::all_of(found.begin(), found.end(), [](const auto& rank) { return rank.weight.empty(); });
  const char* what = !finite             ? "not finite; "
                     : figures.too_large ? "too large to be squared or clipped in fp32; the largest part: "
                                         : "all of it lost to overflow or underflow; zero throughout: ";
  return absl::StrCat(what, DescribeNonFinite(found));
}

// Saves the state, if it is savable, no checkpoint has it, and the configuration wants any. Says which checkpoint is
// the newest, and what failed. Collective. Errors: of collectives.
absl::StatusOr<std::string> KeepState(RunParts& run, const TrainingMoment& moment, bool savable) {
  ISTHMUS_RETURN_IF_ERROR(run.checkpoints->Wait());
  const auto& checkpoint = run.config.checkpoint();
  const bool there = NewestCheckpoint(run) == CheckpointFolder(run.config.folder(), moment.step);
  std::string failure;
  if (savable && !there && moment.step > 0 && (checkpoint.interval() > 0 || checkpoint.save_final())) {
    const absl::Status status = run.checkpoints->Save(moment, /*at_once=*/true);
    if (ExitStatusOf(status.code()) == kExitRankFailed) return status;
    if (!status.ok()) failure = absl::StrCat("no checkpoint of step ", moment.step, ": ", status.message(), "; ");
  }
  return absl::StrCat(failure, DescribeNewest(run));
}

absl::Status Halt(RunParts& run, const Refusal& refused, const std::string& why) {
  ISTHMUS_ASSIGN_OR_RETURN(const std::string saved, KeepState(run, refused.before, refused.savable));
  run.recorder->RecordHalt(refused.step, refused.figures, run.state, *run.stability);
  return absl::AbortedError(absl::StrCat(refused.what, "; ", why, "; nothing of the step was applied; ", saved));
}

// Returns to the state that `run.plan` leads to. Collective.
absl::Status RollBack(RunParts& run) {
  RunState& state = run.state;
  proto::StabilityState then;
  if (!run.plan.candidates.empty()) {
    if (const absl::Status status = RestoreState(run); !status.ok()) {
      if (ExitStatusOf(status.code()) == kExitRankFailed || MayBeSound(status)) return status;
      return absl::AbortedError(absl::StrCat("can't roll back: ", status.message(), "; ", kCalmer));
    }
    then = run.restored->manifest.stability();
  } else {
    ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(run.world, run.model->InitializeWeights(run.config.seed())));
    state.batches = state.steps = state.tokens = 0;
    run.restored.reset();
  }
  ISTHMUS_RETURN_IF_ERROR(SetAsideLaterCheckpoints(run));
  run.stability->GoBack(then);
  // Records of steps that are taken again would be there twice.
  run.recorder->Close();
  run.recorder->Forget();
  auto sinks = OpenSinks(run.config, run.world.rank(), run.local_rank,
                         {.first_step = state.steps + 1, .continued = true, .while_training = true});
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(run.world, sinks.status()));
  run.recorder->GoOn(*std::move(sinks), state.steps);
  OpenLoader(run);
  return absl::OkStatus();
}

// Rolls back, unless no plan for it can be made: then `impossible` says why, and nothing has changed. Collective.
absl::Status TryToRollBack(RunParts& run, absl::Status& impossible) {
  ISTHMUS_RETURN_IF_ERROR(run.checkpoints->Wait());
  const DeadlineScope patience(*run.mesh, SetupDeadline(run.config));
  auto plan = PlanRollback(run.plan, run.config.folder(), run.world);
  if (ExitStatusOf(plan.status().code()) == kExitRankFailed) return plan.status();
  impossible = plan.status();
  if (!plan.ok()) return absl::OkStatus();
  run.plan = *std::move(plan);
  return RollBack(run);
}

}  // namespace

absl::Status Refuse(RunParts& run, int64_t step, int64_t batch, const StepResult& result) {
  // The checkpoint of a run that halts does not count the refusal. A run that is continued from it takes the step
  // again.
  Refusal refused{.step = step, .figures = result, .before = MomentOf(run)};
  const Stability::Verdict verdict = run.stability->Refused(step, batch, result);
  refused.what =
      absl::StrFormat("step %d, batch %d: loss %g, gradient norm %g", step, batch, result.loss, result.gradient_norm);
  if (!verdict.finite) {
    ISTHMUS_ASSIGN_OR_RETURN(const std::string places, DescribeUnsoundStep(run, result, refused.savable));
    absl::StrAppend(&refused.what, ", ", places);
  }
  if (!verdict.reason.empty()) absl::StrAppend(&refused.what, "; ", verdict.reason);
  switch (verdict.action) {
    case Stability::Action::kHalt:
      return Halt(run, refused, Remedy(run.config, verdict.finite));
    case Stability::Action::kSkip:
      run.state.batches = batch;
      run.messages->Say(absl::StrCat(refused.what, "; the batch is passed over"));
      return absl::OkStatus();
    case Stability::Action::kRollback:
      break;
  }
  run.messages->Say(absl::StrCat(refused.what, "; rolling back"));
  absl::Status impossible;
  ISTHMUS_RETURN_IF_ERROR(TryToRollBack(run, impossible));
  if (!impossible.ok()) {
    // The weights are still those before the step.
    const absl::Status halted = Halt(run, refused, absl::StrCat("can't roll back: ", impossible.message()));
    return absl::IsAborted(halted) ? absl::Status(impossible.code(), halted.message()) : halted;
  }
  run.messages->Say(
      absl::StrCat("rolled back to step ", run.state.steps, "; goes on with batch ", run.state.batches + 1));
  return absl::OkStatus();
}

absl::Status EndOfData(RunParts& run, const absl::Status& error) {
  if (ExitStatusOf(error.code()) == kExitRankFailed) return error;
  ISTHMUS_ASSIGN_OR_RETURN(const std::string saved, KeepState(run, MomentOf(run), /*savable=*/true));
  return absl::Status(error.code(), absl::StrCat(error.message(), "; training ended after step ", run.state.steps, "; ",
                                                 saved, "; start again with --resume auto when the data are sound"));
}

absl::Status StoppedUnsaved(RunParts& run, int signal, const absl::Status& error) {
  if (ExitStatusOf(error.code()) == kExitRankFailed) return error;
  return WorthAnotherStart(
      absl::Status(error.code(), absl::StrCat("stopped by ", SignalName(signal), ", but step ", run.state.steps,
                                              " could not be saved: ", error.message(), "; ", DescribeNewest(run))));
}

}  // namespace isthmus
