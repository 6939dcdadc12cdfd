// These are the steps of a save. They run on the training thread (save_checkpoint.cc) or beside it
// (background_save.cc).
#ifndef ISTHMUS_CHECKPOINT_SAVE_STEPS_H_
#define ISTHMUS_CHECKPOINT_SAVE_STEPS_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/model_tensors.h"
#include "checkpoint/weights.h"
#include "parallel/communicator.h"
#include "runtime/stream.h"

namespace isthmus {

// Returns where a checkpoint is until it is complete.
std::string TemporaryFolderOf(const std::string& folder);

// Rank 0 makes the temporary folder, instead of an incomplete one; others do nothing.
absl::Status PrepareTemporaryFolder(const std::string& folder, int rank);
// Removes the folder of a save that failed. If it fills the disk, the next one would fail, too.
void RemoveTemporaryFolder(const std::string& folder);

// Writes this rank's file and describes it in `partial`. Adds its bytes to `written`, for another thread to read, as
// they go. Every byte of a file is covered by a checksum.
absl::Status WriteParts(const std::string& folder, const std::vector<TensorPart>& parts, const Stream& stream, int rank,
                        proto::CheckpointManifest& partial, std::atomic<int64_t>& written);

// Does rank 0's last part: tokenizer, clusters, manifest of all ranks' parts, and the rename that makes the checkpoint
// complete. `names` are those of the model's tensors, in order.
absl::Status CompleteFolder(const std::string& folder, const CheckpointContents& contents,
                            const std::vector<std::string>& partials, const std::vector<std::string>& names,
                            SavedCheckpoint& saved);

std::vector<std::string> NamesOf(const ParameterStore& parameters);

// Gives rank 0's outcome to all ranks. Collective.
absl::StatusOr<SavedCheckpoint> ShareOutcome(Communicator& world, const SavedCheckpoint& saved);

}  // namespace isthmus

#endif  // ISTHMUS_CHECKPOINT_SAVE_STEPS_H_
