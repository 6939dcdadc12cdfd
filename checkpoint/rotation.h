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

// Points checkpoints/latest, a symbolic link, to the checkpoint of `step`, which is complete. Errors: by errno.
absl::Status PointToLatest(const std::string& run_folder, int64_t step);

// Removes the checkpoints that `config` does not keep, and what killed saves and removals left. To be called after a
// complete save, by one process, when nothing is being saved. A checkpoint whose manifest can't be read is left alone,
// and counts for nothing. Errors: by errno.
absl::Status RotateCheckpoints(const std::string& run_folder, const proto::CheckpointConfig& config);

// Renames the checkpoints of later steps to step-….set-aside, so that a run that continues from `step` can save its
// own; `latest` leads to that of `step` then, where there is one. Returns the new names. Errors: by errno.
absl::StatusOr<std::vector<std::string>> SetAsideLater(const std::string& run_folder, int64_t step);

}  // namespace isthmus

#endif  // ISTHMUS_CHECKPOINT_ROTATION_H_
