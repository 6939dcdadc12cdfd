// Takes the steps of a run, from the first to the last.
#ifndef ISTHMUS_LAUNCH_RUN_LOOP_H_
#define ISTHMUS_LAUNCH_RUN_LOOP_H_

#include <absl/status/status.h>

#include "launch/run/run_parts.h"

namespace isthmus {

// Trains to the end, saving checkpoints; `run.state` then tells the outcome. A checkpoint that can't be saved on the
// way costs that checkpoint; the last one is an error. Collective. Errors: Cancelled if a signal came, on whatever
// rank, and a checkpoint was saved. WorthAnotherStart (runtime/exit_status.h) if it could not be. Aborted if training
// diverged; of the data, with the state saved; of collectives.
absl::Status TrainRun(RunParts& run);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_RUN_LOOP_H_
