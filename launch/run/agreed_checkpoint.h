// Lets all ranks agree on what they find in a checkpoint. One rank may see another folder than the others.
// Its disk may not be mounted, its network file system may be out of date, or it may lack permission. A finding is
// about the checkpoint only if every rank has it. Otherwise it is about the rank, and nobody acts on it.
#ifndef ISTHMUS_LAUNCH_RUN_AGREED_CHECKPOINT_H_
#define ISTHMUS_LAUNCH_RUN_AGREED_CHECKPOINT_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <string>
#include <vector>

#include "parallel/communicator.h"
#include "proto/checkpoint.pb.h"

namespace isthmus {

// Returns true if the checkpoint itself is to blame (a file is missing, truncated or damaged), so that an older one may
// be sound. Other errors say nothing about the stored bytes: too many open files, no permission, a newer format, a
// failing disk.
bool IsNotSound(const absl::Status& status);

// Returns the checkpoints that any rank has listed, newest first, the same on all ranks. A rank that has not listed one
// may still find it by its name. Collective. Errors: those of any rank, naming it.
absl::StatusOr<std::vector<std::string>> AgreedCheckpoints(const absl::StatusOr<std::vector<std::string>>& mine,
                                                           Communicator& world);

// Returns rank 0's result of FindCheckpoint to all ranks. Collective. Errors: those of any rank, naming it.
absl::StatusOr<std::string> AgreedCheckpoint(const std::string& path, Communicator& world);

// Returns the manifest if every rank has read the same one. Collective; the same on all ranks. Errors: IsNotSound if
// all ranks find it so. Otherwise they name a rank and what it could not read: FailedPrecondition if other ranks could
// read it, else that rank's own error.
absl::StatusOr<proto::CheckpointManifest> AgreedManifest(const std::string& folder, Communicator& world);

// Turns each rank's outcome of reading the checkpoint into one that all ranks share. Each rank reads what it needs, so
// that a single rank may find damage; the others then check the same bytes. Collective. Errors: as AgreedManifest.
absl::Status AgreeOnReading(const std::string& folder, const absl::Status& mine, Communicator& world);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_RUN_AGREED_CHECKPOINT_H_
