#include "launch/run/loop.h"

#include <absl/status/statusor.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <cmath>
#include <optional>
#include <string>
#include <utility>

#include "launch/run/agreed_stop.h"
#include "launch/run/recovery.h"
#include "launch/run/run_deadlines.h"
#include "launch/run/step.h"
#include "runtime/exit_status.h"
#include "runtime/fault_point.h"
#include "runtime/monotonic.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// Saves a checkpoint of the step that was just taken. `signal` is the one that ends training after it. With 0 nothing
// ends training, unless it is the `last` step.
absl::Status SaveStep(RunParts& run, int signal, bool last) {
  run.watch.whereabouts().Enter("saving a checkpoint");
  const TrainingMoment moment = MomentOf(run);
  const bool ends = last || signal != 0;
  // A run that is killed once the checkpoint is complete does not make the step's record again.
  if (!ends) run.recorder->Publish(*run.checkpoints);
  const absl::Status saved = run.checkpoints->Save(moment, /*at_once=*/ends);
  return saved.ok() || last || signal == 0 ? saved : StoppedUnsaved(run, signal, saved);
}

// Each step checks the weights that the step before it made. Only the last validation checks the last weights.
absl::Status CheckLastUpdate(const RunState& state) {
  if (std::isfinite(state.validation_loss)) return absl::OkStatus();
  return absl::AbortedError(absl::StrCat("validation loss ", state.validation_loss, " after step ", state.steps,
                                         ", the last: its update has made a model that is not finite; lower "
                                         "optimizer.learning_rate, or set schedule.steps to ",
                                         state.steps - 1, " and go on from an older checkpoint"));
}

// Trains until the last step, or a signal.
absl::Status TrainSteps(RunParts& run) {
  const auto& schedule = run.config.schedule();
  RunState& state = run.state;
  const double elapsed = run.restored.has_value() ? run.restored->manifest.elapsed_seconds() : 0;
  state.start_seconds = MonotonicSeconds() - elapsed;
  bool last = state.steps >= schedule.steps() || (schedule.max_seconds() > 0 && elapsed >= schedule.max_seconds());
  state.already_complete = last;
  if (!last) ISTHMUS_RETURN_IF_ERROR(EndIfStopped(run.signals, run.world, "everything was set up"));
  while (!last) {
    const int64_t step = state.steps + 1;
    ISTHMUS_ASSIGN_OR_RETURN(last, TrainStep(run, step));
    run.watch.whereabouts().Enter("between steps");
    FaultPoint("step.end");
    if (state.steps != step) continue;  // refused
    ISTHMUS_RETURN_IF_ERROR(run.checkpoints->Poll());
    ISTHMUS_ASSIGN_OR_RETURN(const int signal, AgreedStop(run.signals, run.world));
    const bool stopped = signal != 0 && !last;
    if (stopped || run.checkpoints->Due(step, last)) ISTHMUS_RETURN_IF_ERROR(SaveStep(run, signal, last));
    if (stopped) {
      return absl::CancelledError(absl::StrCat("stopped by ", SignalName(signal), " after step ", step, "; saved ",
                                               run.checkpoints->newest(), "; start again with --resume auto"));
    }
    if (!last) run.recorder->Publish(*run.checkpoints);
  }
  return CheckLastUpdate(state);
}

void LogEnd(const absl::Status& status, const RunState& state, Log& log) {
  if (absl::IsCancelled(status)) {
    log.Info(std::string(status.message()));
  } else if (!status.ok()) {
    log.Error(std::string(status.message()));
  } else if (state.already_complete) {
    log.Info(absl::StrCat("nothing left to train: the run is complete since step ", state.steps));
  } else {
    log.Info(absl::StrFormat("done: %d steps in %.1f s, loss %.6f, validation loss %.6f", state.steps, state.seconds,
                             state.train_loss, state.validation_loss));
  }
}

}  // namespace

absl::Status TrainRun(RunParts& run) {
  run.mesh->set_deadline(StepDeadline(run.config));
  ISTHMUS_RETURN_IF_ERROR(run.world.Barrier());
  absl::Status status = TrainSteps(run);
  run.watch.whereabouts().Enter("ending");
  // Whatever ended training, all work in progress is finished, unless a rank is lost.
  if (ExitStatusOf(status.code()) != kExitRankFailed) status.Update(run.checkpoints->Wait());
  NewestCheckpoint(run);
  run.recorder->Publish(*run.checkpoints);
  run.state.seconds = run.state.Elapsed();
  run.recorder->Close();
  LogEnd(status, run.state, run.messages->log());
  return status;
}

}  // namespace isthmus
