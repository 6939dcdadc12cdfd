// Takes one step of a run: its batch, the model's step, validation, the record.
#ifndef ISTHMUS_LAUNCH_RUN_STEP_H_
#define ISTHMUS_LAUNCH_RUN_STEP_H_

#include <absl/status/statusor.h>

#include <cstdint>

#include "launch/run/run_parts.h"

namespace isthmus {

// Takes one step and makes its record, if one is due. Returns true if the run is over after it. If the step is refused,
// `run.state.steps` is the latest one that the weights have seen. Collective. Errors: those of Refuse and EndOfData
// (launch/run/recovery.h); of collectives.
absl::StatusOr<bool> TrainStep(RunParts& run, int64_t step);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_RUN_STEP_H_
