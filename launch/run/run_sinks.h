// The telemetry sinks of a run, as its configuration wants them.
#ifndef ISTHMUS_LAUNCH_RUN_RUN_SINKS_H_
#define ISTHMUS_LAUNCH_RUN_RUN_SINKS_H_

#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>

#include "proto/config.pb.h"
#include "runtime/telemetry/sinks.h"

namespace isthmus {

// Those of rank 0, which has the cluster's figures, in the run folder and over HTTP; those of another rank show its own
// figures and there may be none. `first_step`: of the first record. `continued`: the folder's own records of earlier
// steps stay, others are cut off. Errors: AlreadyExists when the folder holds a run that is not to be continued; by
// errno for its files.
absl::StatusOr<std::unique_ptr<Sinks>> OpenSinks(const proto::RunConfig& config, int rank, int local_rank,
                                                 int64_t first_step, bool continued);

// Each rank shows figures of its own.
bool EveryRankIsShown(const proto::RunConfig& config);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_RUN_RUN_SINKS_H_
