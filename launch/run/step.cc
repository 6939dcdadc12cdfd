#include "launch/run/step.h"

#include <optional>
#include <utility>

#include "launch/run/recovery.h"
#include "launch/run/run_deadlines.h"
#include "launch/run/step_plan.h"
#include "launch/run/validation.h"
#include "parallel/deadline_scope.h"
#include "runtime/fault_point.h"
#include "runtime/monotonic.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// Returns the seconds since the start of training, the same on every rank; 0 in a run without a time limit. Collective.
absl::StatusOr<double> AgreedElapsed(const RunParts& run) {
  if (run.config.schedule().max_seconds() <= 0) return 0;
  double elapsed = run.state.Elapsed();
  ISTHMUS_RETURN_IF_ERROR(run.world.Broadcast(Tensor(&elapsed, DType::kFloat64, 1, 1), 0));
  return elapsed;
}

// `seconds` is the time that the step waited for the batch.
absl::StatusOr<Batch> NextBatch(RunParts& run, double& seconds) {
  Whereabouts& whereabouts = run.watch.whereabouts();
  const double begin = MonotonicSeconds();
  whereabouts.Enter(PhaseName(StepPhase::kData));
  FaultPoint("step.data");
  auto batch = run.loader->Next();
  whereabouts.Enter("between phases");
  seconds = MonotonicSeconds() - begin;
  if (const absl::Status status = AgreeOnStatus(run.world, batch.status()); !status.ok()) {
    return EndOfData(run, status);
  }
  return batch;
}

absl::StatusOr<StepResult> StepOnBatch(RunParts& run, const StepPlan& plan, Batch& batch, HeadDump& dump) {
  const StepRequest request = {.ids = batch.ids(),
                               .targets = batch.targets(),
                               .step = plan.step,
                               .learning_rate = plan.learning_rate,
                               .measure = plan.measure,
                               .accept = [&run](const StepFigures& figures) { return run.stability->Accepts(figures); },
                               .last = plan.last};
  if (run.decomposition != nullptr) run.decomposition->Dump(plan.dump ? &dump : nullptr);
  if (!plan.waits_for_spectrum) return run.model->Step(request);
  const DeadlineScope patience(*run.mesh, SetupDeadline(run.config));
  ISTHMUS_ASSIGN_OR_RETURN(StepResult result, run.model->Step(request));
  ISTHMUS_RETURN_IF_ERROR(run.world.Barrier());
  return result;
}

// Returns nothing if a signal ended it. Collective.
absl::StatusOr<std::optional<proto::ValidationRecord>> ValidateStep(RunParts& run, bool last) {
  run.watch.whereabouts().Enter("evaluation");
  ISTHMUS_ASSIGN_OR_RETURN(std::optional<proto::ValidationRecord> record, Validate(run, last));
  if (record.has_value()) {
    run.state.validation_loss = record->loss();
  } else {
    run.messages->log().Info("no validation of this step: a signal ended it");
  }
  return record;
}

// Does all that follows a step that was applied. Sets `taken.last`. Collective.
absl::Status Conclude(RunParts& run, const StepPlan& plan, TakenStep& taken) {
  run.recorder->Count(taken);
  for (const std::string& note : run.stream.TakeNotes()) run.messages->log().Info(note);
  run.recorder->TellNotes();
  taken.last = plan.last;
  if (!taken.last) {
    ISTHMUS_ASSIGN_OR_RETURN(const double elapsed, AgreedElapsed(run));
    const double limit = run.config.schedule().max_seconds();
    taken.last = limit > 0 && elapsed >= limit;
  }
  RunState& state = run.state;
  state.steps = taken.step;
  state.tokens = taken.step * TokensPerStep(run.config);
  state.train_loss = taken.result.loss;
  if (plan.measure) {
    taken.measured = run.decomposition->result();
    state.head = taken.measured->head;
    run.recorder->TellOfHead(*state.head);
  }
  const auto& telemetry = run.config.telemetry();
  const bool validate = taken.last || IsDue(telemetry.validation_interval(), taken.step);
  if (validate) {
    ISTHMUS_ASSIGN_OR_RETURN(taken.validation, ValidateStep(run, taken.last));
  }
  const bool record = validate || plan.measure || IsDue(telemetry.log_interval(), taken.step) ||
                      run.checkpoints->Due(taken.step, taken.last);
  if (!record) return absl::OkStatus();
  const auto rows = static_cast<size_t>(run.model->loss().parameter().first);
  ISTHMUS_RETURN_IF_ERROR(run.gaps->Fill(run.model->optimizer().Beta2Of(rows), taken.gaps));
  return run.recorder->Record(taken, state, *run.stability);
}

}  // namespace

absl::StatusOr<bool> TrainStep(RunParts& run, int64_t step) {
  FaultPoint("step.begin");
  run.messages->log().set_step(step);
  run.watch.whereabouts().set_step(step);
  run.watch.whereabouts().Enter("between phases");
  ISTHMUS_ASSIGN_OR_RETURN(const double elapsed, AgreedElapsed(run));
  const StepPlan plan = PlanStep(run.config, step, elapsed);
  TakenStep taken{.step = step, .learning_rate = plan.learning_rate};
  HeadDump dump;
  double data_seconds = 0;
  const double begin = MonotonicSeconds();
  ISTHMUS_ASSIGN_OR_RETURN(Batch batch, NextBatch(run, data_seconds));
  ISTHMUS_ASSIGN_OR_RETURN(taken.result, StepOnBatch(run, plan, batch, dump));
  taken.result.seconds[StepPhase::kData] = data_seconds;
  const int64_t number = batch.number;
  if (taken.result.applied) ISTHMUS_RETURN_IF_ERROR(run.gaps->AddStep(step, batch.targets()));
  run.loader->Recycle(std::move(batch));
  if (!taken.result.applied) {
    ISTHMUS_RETURN_IF_ERROR(Refuse(run, step, number, taken.result));
    return false;
  }
  run.stability->Applied(taken.result);
  run.state.batches = number;
  if (run.seen.has_value()) run.seen->Train(number);
  if (plan.dump && run.decomposition->result().head.linear) {
    ISTHMUS_RETURN_IF_ERROR(run.recorder->DumpHead(step, dump, run.data.tables.counts));
  }
  taken.seconds = MonotonicSeconds() - begin;
  ISTHMUS_RETURN_IF_ERROR(Conclude(run, plan, taken));
  return taken.last;
}

}  // namespace isthmus
