// Saves the checkpoints of a run, and says of them what its records need.
#ifndef ISTHMUS_LAUNCH_RUN_RUN_CHECKPOINTS_H_
#define ISTHMUS_LAUNCH_RUN_RUN_CHECKPOINTS_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/background_save.h"
#include "checkpoint/weights.h"
#include "launch/run/run_data.h"
#include "model/train/token_gaps.h"
#include "model/train/training_model.h"
#include "parallel/mesh.h"
#include "proto/checkpoint.pb.h"
#include "proto/config.pb.h"
#include "proto/telemetry.pb.h"
#include "runtime/log.h"

namespace isthmus {

// Says where training is.
struct TrainingMoment {
  int64_t step = 0, tokens = 0;
  int64_t batches = 0;  // of the data, that were trained on or passed over
  double elapsed_seconds = 0;
  proto::StabilityState stability;
  std::optional<double> validation_loss;  // of this step
  std::vector<int64_t> untrained;         // of the batches, those that were passed over; of a run on data.spamlang
};

// Saving, polling and waiting are collective over the mesh. Their errors are those of collectives, and of the last
// save. An earlier save that fails, for lack of space for example, is logged and counted.
class RunCheckpoints {
 public:
  // All arguments must outlive it.
  RunCheckpoints(const proto::RunConfig& config, const RunData& data, Mesh& mesh, TrainingModel& model, TokenGaps& gaps,
                 Log& log)
      : config_(config), data_(data), mesh_(mesh), model_(model), gaps_(gaps), log_(log), background_(mesh) {}

  // Takes the memory that saves need, so that none is taken later. Local. Errors: ResourceExhausted.
  absl::Status Reserve();
  bool Due(int64_t step, bool last) const;

  // Saves. `at_once` means that nothing follows that could go on meanwhile, and a failure is an error.
  absl::Status Save(const TrainingMoment& moment, bool at_once);
  // Is called once a step: ends a save that has been written in the background.
  absl::Status Poll();
  // Waits until nothing is being written any more.
  absl::Status Wait();

  // Says how far a running save has come, and adds the news since the last call. If there were several checkpoints, it
  // is about the newest, with the time that steps waited for all.
  void FillRecord(proto::TelemetryRecord& record);
  // Returns the newest complete one, empty if there is none.
  const std::string& newest() const { return newest_; }

 private:
  // Works in the foreground. Collective.
  absl::StatusOr<SavedCheckpoint> SaveAndTidy(const std::string& folder, const CheckpointContents& contents);
  absl::Status Poll(bool wait);
  void Succeed(const SavedCheckpoint& saved);
  // Errors: `status`, when it is a rank's, or `fatal`.
  absl::Status Fail(const absl::Status& status, bool fatal);
  // Is called on rank 0 when a checkpoint is complete. The checkpoint stands even if this fails.
  void Tidy();

  const proto::RunConfig& config_;
  const RunData& data_;
  Mesh& mesh_;
  TrainingModel& model_;
  TokenGaps& gaps_;
  Log& log_;
  BackgroundSave background_;
  int64_t step_ = 0;  // of the save that is running or was last
  double begin_ = 0, wait_seconds_ = 0;
  std::string tidied_, told_;  // what there is to say of `latest` and of rotation, and what was said last; lines
  std::string newest_;
  int64_t failed_ = 0;
  std::optional<proto::CheckpointRecord> record_;
};

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_RUN_RUN_CHECKPOINTS_H_
