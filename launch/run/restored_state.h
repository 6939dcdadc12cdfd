// Takes a run's state from a checkpoint: at its start, and when it rolls back.
#ifndef ISTHMUS_LAUNCH_RUN_RESTORED_STATE_H_
#define ISTHMUS_LAUNCH_RUN_RESTORED_STATE_H_

#include <absl/status/status.h>

#include "launch/run/run_parts.h"

namespace isthmus {

// Takes weights, optimizer state, gaps between tokens and position from the first sound checkpoint of `run.plan`, which
// has some. Sets `run.restored` and `run.state`. `run.gaps` must be there. Collective. Errors: those of Restore
// (launch/run/resume.h).
absl::Status RestoreState(RunParts& run);

// Sets checkpoints of steps after the latest aside, so that training can save its own. The restored one gets its step's
// name, if it lies in the run folder under another name. Rank 0 does it. Collective. Errors: by errno.
absl::Status SetAsideLaterCheckpoints(RunParts& run);

// Opens the batches after `run.state.batches`, without those that refused steps or the configuration pass over. Takes
// what is known of those before from `run.restored`.
void OpenLoader(RunParts& run);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_RUN_RESTORED_STATE_H_
