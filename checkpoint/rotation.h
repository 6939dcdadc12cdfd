// Decides which checkpoints of a run folder stay, and which one is the latest.
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
// folder's name where the file system has no links. Nothing else depends on it. A folder named `latest`, which copying
// a run can make, is moved aside. Returns a message about that, else an empty string. Errors: by errno. A link that is
// there stays then, where the file system has links.
absl::StatusOr<std::string> PointToLatest(const std::string& run_folder, int64_t step);

// Removes the checkpoints that `config` does not keep, and what killed saves and removals left. It must be called after
// a complete save, by one process, when nothing is being saved. A checkpoint whose manifest can't be read is left alone
// and not counted. If one can't be removed, the others still are. Errors: the first one, by errno, after everything was
// tried.
absl::Status RotateCheckpoints(const std::string& run_folder, const proto::CheckpointConfig& config);

// Does the last part of RotateCheckpoints: removes files and folders whose names only interrupted saves and removals
// leave. If they have filled the disk, nothing else would remove them at a start. Errors: as above.
absl::Status RemoveLeftovers(const std::string& run_folder);

struct LaterCheckpoints {
  std::vector<std::string> names;  // the new ones
  std::string latest;              // what there is to say of `latest`, else empty
};
// Renames the checkpoints of later steps to step-….set-aside, so that a run that continues from `step` can save its
// own. If there is one of `step`, `latest` then leads to it; if it can't, that is no error. Errors: by errno.
absl::StatusOr<LaterCheckpoints> SetAsideLater(const std::string& run_folder, int64_t step);

// Returns the folders step-….set-aside, sorted by name. Errors: by errno.
absl::StatusOr<std::vector<std::string>> ListSetAside(const std::string& run_folder);

struct NamedCheckpoint {
  bool renamed = false;
  std::string set_aside;  // the new name of a checkpoint that had the name, else empty
};
// Must be called for the checkpoint of `step`, `folder`, from which a run goes on. If it lies in the run folder, for
// example as step-….set-aside, it gets its step's name, so that later starts find it. Another checkpoint of that name
// is set aside. Errors: by errno.
absl::StatusOr<NamedCheckpoint> NameAfterStep(const std::string& run_folder, const std::string& folder, int64_t step);

}  // namespace isthmus

#endif  // ISTHMUS_CHECKPOINT_ROTATION_H_
