// The text file that describes a sweep (proto/sweep.proto).
#ifndef ISTHMUS_LAUNCH_SWEEP_SWEEP_FILE_H_
#define ISTHMUS_LAUNCH_SWEEP_SWEEP_FILE_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <string>

#include "proto/sweep.pb.h"

namespace isthmus::sweep {

// Most runs of a sweep, without those that extended tunings add.
inline constexpr int64_t kMostRuns = 100000;

// Reads a sweep and checks all that can be known without its base. `base`, and the paths of checkpoints, become paths from
// the working folder, and an empty `baseline` the first arm. Errors: NotFound or PermissionDenied for the file; InvalidArgument "file:line:column: …"
// for a text that is no sweep, and "file: field: found; accepted" for one that can't be run.
absl::StatusOr<proto::SweepConfig> LoadSweep(const std::string& path);

}  // namespace isthmus::sweep

#endif  // ISTHMUS_LAUNCH_SWEEP_SWEEP_FILE_H_
