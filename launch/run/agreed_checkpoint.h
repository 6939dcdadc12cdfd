// What all ranks find of a checkpoint. One rank may see another folder than the others: a disk that is not mounted
// there, a network file system's memory of an hour ago, no permission. What it finds says something of the checkpoint
// only when every rank finds it; else it says something of the rank, and nobody acts on it.
#ifndef ISTHMUS_LAUNCH_RUN_AGREED_CHECKPOINT_H_
#define ISTHMUS_LAUNCH_RUN_AGREED_CHECKPOINT_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <string>
#include <vector>

#include "parallel/communicator.h"
#include "proto/checkpoint.pb.h"

namespace isthmus {

// Whether the checkpoint itself is to blame, and an older one may be sound: a file is missing, truncated or damaged.
// All else, too many open files, no permission, a newer format, a disk that fails, says nothing of what is stored.
bool IsNotSound(const absl::Status& status);

// Checkpoints that any rank has listed, newest first, the same on all: one that hasn't may find them by their names.
// Collective. Errors: a rank's, naming it.
absl::StatusOr<std::vector<std::string>> AgreedCheckpoints(const absl::StatusOr<std::vector<std::string>>& mine,
                                                           Communicator& world);

// Rank 0's choice of FindCheckpoint. Collective. Errors: a rank's, naming it.
absl::StatusOr<std::string> AgreedCheckpoint(const std::string& path, Communicator& world);

// The manifest, which every rank has read alike. Collective; the same on all ranks. Errors: IsNotSound when all ranks
// find it so; else, naming a rank and what it could not read: FailedPrecondition where others could, or the rank's own.
absl::StatusOr<proto::CheckpointManifest> AgreedManifest(const std::string& folder, Communicator& world);

// What all ranks make of a rank's outcome of reading the checkpoint: each rank reads what it needs, so that damage is
// seen by one alone; then the others look at the same place. Collective. Errors: as AgreedManifest.
absl::Status AgreeOnReading(const std::string& folder, const absl::Status& mine, Communicator& world);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_RUN_AGREED_CHECKPOINT_H_
