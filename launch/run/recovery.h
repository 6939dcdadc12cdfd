// Deals with a step, data or a checkpoint that fails: the run goes on, or ends with all that can be kept.
#ifndef ISTHMUS_LAUNCH_RUN_RECOVERY_H_
#define ISTHMUS_LAUNCH_RUN_RECOVERY_H_

#include <absl/status/status.h>

#include <cstdint>

#include "launch/run/run_parts.h"
#include "model/train/training_model.h"

namespace isthmus {

// Handles a step that was not applied, as config.stability wants: passes over its batch, rolls back, or halts. `batch`
// is its number. Afterwards `run.state` tells where training goes on. Collective. Errors: Aborted if the run halts,
// with the state saved; those of the checkpoint that a rollback needs; of collectives.
absl::Status Refuse(RunParts& run, int64_t step, int64_t batch, const StepResult& result);

// Ends a run whose data can't be read. Saves the state. `error` is of all ranks. Collective. Returns an error of the
// same code that says what is saved, or one of collectives.
absl::Status EndOfData(RunParts& run, const absl::Status& error);

// Ends a run after a signal if the checkpoint that it asks for fails with `error`. Returns `error` if it is a rank's,
// else WorthAnotherStart (runtime/exit_status.h).
absl::Status StoppedUnsaved(RunParts& run, int signal, const absl::Status& error);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_RUN_RECOVERY_H_
