#include "launch/run/run_parts.h"

namespace isthmus {

TrainingMoment MomentOf(const RunParts& run) {
  TrainingMoment moment{.step = run.state.steps,
                        .tokens = run.state.tokens,
                        .batches = run.state.batches,
                        .elapsed_seconds = run.state.Elapsed(),
                        .stability = run.stability->state()};
  if (run.recorder->has_validation()) moment.validation_loss = run.state.validation_loss;
  if (run.seen.has_value()) moment.untrained = run.seen->Untrained(run.state.batches);
  return moment;
}

const std::string& NewestCheckpoint(RunParts& run) {
  if (!run.checkpoints->newest().empty()) run.state.checkpoint = run.checkpoints->newest();
  return run.state.checkpoint;
}

}  // namespace isthmus
