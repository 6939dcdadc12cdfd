// The steps of a save, which run on the training thread (save_checkpoint.cc) or beside it (background_save.cc).
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

// Where a checkpoint is until it is complete.
std::string TemporaryFolderOf(const std::string& folder);

// Rank 0 makes the temporary folder, instead of an incomplete one; others do nothing.
absl::Status PrepareTemporaryFolder(const std::string& folder, int rank);
// Of a save that failed. What fills the disk would make the next one fail, too.
void RemoveTemporaryFolder(const std::string& folder);

// Writes this rank's file and describes it in `partial`; adds its bytes to `written`, for another thread to read, as
// they go. Files have no byte that no checksum covers.
absl::Status WriteParts(const std::string& folder, const std::vector<TensorPart>& parts, const Stream& stream, int rank,
                        proto::CheckpointManifest& partial, std::atomic<int64_t>& written);

// Rank 0's last part: tokenizer, manifest of all ranks' parts, and the rename that makes the checkpoint complete.
// `names`: of the model's tensors, in order.
absl::Status CompleteFolder(const std::string& folder, const CheckpointContents& contents,
                            const std::vector<std::string>& partials, const std::vector<std::string>& names,
                            SavedCheckpoint& saved);

std::vector<std::string> NamesOf(const ParameterStore& parameters);

// Rank 0's outcome on all ranks. Collective.
absl::StatusOr<SavedCheckpoint> ShareOutcome(Communicator& world, const SavedCheckpoint& saved);

}  // namespace isthmus

#endif  // ISTHMUS_CHECKPOINT_SAVE_STEPS_H_
