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

// Lets checkpoints/latest lead to the checkpoint of `step`, which is complete: a symbolic link, or where none can be
// made a small file with the folder's name. Nothing else depends on it. A folder of that name, as copying a run makes
// it, is moved aside; returns what is to be said of that, else nothing. Errors: by errno.
absl::StatusOr<std::string> PointToLatest(const std::string& run_folder, int64_t step);

// Removes the checkpoints that `config` does not keep, and what killed saves and removals left. To be called after a
// complete save, by one process, when nothing is being saved. A checkpoint whose manifest can't be read is left alone,
// and counts for nothing; one that can't be removed keeps no other. Errors: by errno, the first, after everything was
// tried.
absl::Status RotateCheckpoints(const std::string& run_folder, const proto::CheckpointConfig& config);

// The last part of it: folders and files whose names only interrupted saves and removals leave. At a start nothing else
// would remove them from a disk that they have filled. Errors: as above.
absl::Status RemoveLeftovers(const std::string& run_folder);

// Renames the checkpoints of later steps to step-….set-aside, so that a run that continues from `step` can save its
// own; `latest` leads to that of `step` then, where there is one. Returns the new names. Errors: by errno.
absl::StatusOr<std::vector<std::string>> SetAsideLater(const std::string& run_folder, int64_t step);

}  // namespace isthmus

#endif  // ISTHMUS_CHECKPOINT_ROTATION_H_
