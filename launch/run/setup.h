// Does everything that a run needs before its first step: device, mesh, data, folder, model, and the checkpoint to
// continue from.
#ifndef ISTHMUS_LAUNCH_RUN_SETUP_H_
#define ISTHMUS_LAUNCH_RUN_SETUP_H_

#include <absl/status/statusor.h>

#include <memory>

#include "launch/run/run_parts.h"
#include "launch/run/run_request.h"

namespace isthmus {

// Resolves the configuration, checks it against the world and the data, and writes it to the run folder. Tells the
// watch where that is. All collectives of the mesh have the deadline of setting up (launch/run/run_deadlines.h) from
// then on. Collective; fails on all ranks or none. Errors: Cancelled if a signal came, on whatever rank; nothing is
// lost then. InvalidArgument for settings that can't be; those of OpenRunData, PlanResume, Restore, OpenSinks; by errno
// for the folder; of collectives.
absl::StatusOr<std::unique_ptr<RunParts>> SetUpRun(const RunRequest& request);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_RUN_SETUP_H_
