// Which checkpoints of a run folder stay, and which one is the latest.
#ifndef ISTHMUS_CHECKPOINT_ROTATION_H_
#define ISTHMUS_CHECKPOINT_ROTATION_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "proto/config.pb.h"

namespace isthmus {

// Makes checkpoints/latest lead to the complete checkpoint of `step`. It is a symbolic link, or a small file with the
// folder's name where no link can be made. Nothing else depends on it. A folder named `latest`, which copying a run can
// make, is moved aside. Returns a message about that, else an empty string. Errors: by errno.
absl::StatusOr<std::string> PointToLatest(const std::string& run_folder, int64_t step);

// Removes the checkpoints that `config` does not keep, and what killed saves and removals left. To be called after a
// complete save, by one process, when nothing is being saved. A checkpoint whose manifest can't be read is left alone
// and not counted. If one can't be removed, the others still are. Errors: the first one, by errno, after everything was
// tried.
absl::Status RotateCheckpoints(const std::string& run_folder, const proto::CheckpointConfig& config);

// The last part of RotateCheckpoints: removes files and folders whose names only interrupted saves and removals leave.
// If they have filled the disk, nothing else would remove them at a start. Errors: as above.
absl::Status RemoveLeftovers(const std::string& run_folder);

// Renames the checkpoints of later steps to step-….set-aside, so that a run that continues from `step` can save its
// own; `latest` leads to that of `step` then, where there is one. Returns the new names. Errors: by errno.
absl::StatusOr<std::vector<std::string>> SetAsideLater(const std::string& run_folder, int64_t step);

}  // namespace isthmus

#endif  // ISTHMUS_CHECKPOINT_ROTATION_H_
