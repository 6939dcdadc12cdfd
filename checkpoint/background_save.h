// Saves a checkpoint while training goes on: a step waits only until its state is copied.
#ifndef ISTHMUS_CHECKPOINT_BACKGROUND_SAVE_H_
#define ISTHMUS_CHECKPOINT_BACKGROUND_SAVE_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "checkpoint/model_tensors.h"
#include "checkpoint/weights.h"
#include "runtime/host_buffer.h"

namespace isthmus {

// Runs one save at a time. All calls are collective over the mesh and come from the training thread. A thread of lower
// priority writes the files; it uses no communicator.
class BackgroundSave {
 public:
  // `mesh` must outlive it.
  explicit BackgroundSave(const Mesh& mesh) : mesh_(mesh) {}
  // Waits for this rank's thread alone: its incomplete save stays incomplete.
  ~BackgroundSave();
  BackgroundSave(const BackgroundSave&) = delete;
  BackgroundSave& operator=(const BackgroundSave&) = delete;

  // Takes the host memory that saves of these parameters and their state stage, StagingBytes of checkpoint/staging.h, page-locked for a
  // GPU, and keeps it. Local. Errors: ResourceExhausted.
  absl::Status Reserve(const ParameterStore& parameters, const Optimizer& optimizer);
  int64_t staging_bytes() const { return staged_.bytes(); }

  // Copies the data that this rank writes into the staging memory, which it reserves if that was not done. Then it
  // starts to write as SaveCheckpoint does. `after` is called on rank 0, on the thread, once the checkpoint is
  // complete. None must be pending. Errors: by errno; of collectives.
  absl::Status Start(const std::string& folder, const CheckpointContents& contents, const ParameterStore& parameters,
                     const Optimizer& optimizer, std::function<void()> after);
  bool pending() const { return phase_ != Phase::kNone; }
  // Returns which part of this rank's data has been written, from 0 to 1.
  double written_ratio() const;

  // Returns the outcome once all ranks have one, else nothing; with `wait` it waits for it. The same on all ranks.
  // Errors: as SaveCheckpoint; nothing is pending then.
  absl::StatusOr<std::optional<SavedCheckpoint>> Poll(bool wait);

 private:
  enum class Phase { kNone, kWriting, kCompleting };
  // Runs on the thread. If no thread can be started, that error is the outcome of the work.
  void Run(std::function<absl::Status()> work);
  absl::Status Join();
  // Moves on to the next phase when all ranks are done with this one.
  absl::StatusOr<std::optional<SavedCheckpoint>> Advance();
  absl::Status BeginCompletion();
  absl::Status Abandon(const absl::Status& status);

  const Mesh& mesh_;
  Phase phase_ = Phase::kNone;
  std::string folder_;
  CheckpointContents contents_;
  std::vector<std::string> names_;  // of the model's tensors, in order
  std::function<void()> after_;
  HostBuffer staged_;
  std::vector<TensorPart> parts_;  // in staged_
  proto::CheckpointManifest partial_;
  SavedCheckpoint saved_;
  std::thread thread_;
  std::atomic<bool> done_ = true;
  std::atomic<int64_t> written_ = 0;  // bytes
  int64_t to_write_ = 0;
  absl::Status status_;
};

}  // namespace isthmus

#endif  // ISTHMUS_CHECKPOINT_BACKGROUND_SAVE_H_
