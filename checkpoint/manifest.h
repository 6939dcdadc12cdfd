// Finds checkpoint folders, and reads the manifest that describes one (format: checkpoint/FORMAT.md).
#ifndef ISTHMUS_CHECKPOINT_MANIFEST_H_
#define ISTHMUS_CHECKPOINT_MANIFEST_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "proto/checkpoint.pb.h"

namespace isthmus {

// Checkpoints are written in this version. Version 1, weights alone, can be read too.
inline constexpr int kCheckpointVersion = 2;

// This is the run's SentencePiece model in a checkpoint's folder, if it has one.
inline constexpr char kTokenizerFile[] = "tokenizer.model";

// These are the clusters of the run's tokens in a checkpoint's folder, if its head has some: .npy, int32 [V].
inline constexpr char kClustersFile[] = "clusters.npy";

// These are the steps in which each token came, in a checkpoint's folder: .npy, int64 [3·V]. Older ones have none.
inline constexpr char kTokenGapsFile[] = "token_gaps.npy";

// This name beside checkpoints leads to the newest one. It is a link, or a small file with the folder's name if the
// file system has no links.
inline constexpr char kLatest[] = "latest";

// Returns run_folder/checkpoints/step-00001000.
std::string CheckpointFolder(const std::string& run_folder, int64_t step);
// Returns the step of a checkpoint folder with that name; nullopt if it is not the name of one.
std::optional<int64_t> StepOfFolder(const std::string& folder);

struct StoredCheckpoint {
  int64_t step = 0;
  std::string folder;
};
// Returns the checkpoints of a run folder, newest first: those that have their name, hence were complete when they got
// it. There are none if there is no folder checkpoints/. Errors: by errno if there is one and not all of it can be
// listed. So it is if the folder is a link to a disk that is not mounted. The error says nothing about how many
// checkpoints there are.
absl::StatusOr<std::vector<StoredCheckpoint>> ListCheckpoints(const std::string& run_folder);

// Returns `path` itself if it is a checkpoint, and the checkpoint that it names if it is a file `latest`. Otherwise
// returns the newest complete checkpoint of the run folder `path`. Errors: NotFound; InvalidArgument if `path` is no
// folder; those of ListCheckpoints.
absl::StatusOr<std::string> FindCheckpoint(const std::string& path);

absl::Status WriteManifest(const std::string& folder, const proto::CheckpointManifest& manifest);

// Checks the checksum, the version, and all that checkpoint/manifest_check.h says. If the folder's name has a step, the
// manifest must have the same. Slices of version 1 are returned as slices of one chunk. Errors: by errno; Unimplemented
// for a newer version, which may be sound; DataLoss naming the file.
absl::StatusOr<proto::CheckpointManifest> ReadManifest(const std::string& folder);

struct IdentifiedManifest {
  proto::CheckpointManifest manifest;
  uint64_t checksum = 0;  // of the stored bytes; it differs between manifests
};
absl::StatusOr<IdentifiedManifest> ReadIdentifiedManifest(const std::string& folder);

}  // namespace isthmus

#endif  // ISTHMUS_CHECKPOINT_MANIFEST_H_
