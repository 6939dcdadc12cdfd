// Finds what a start of a run continues from.
#ifndef ISTHMUS_LAUNCH_RUN_RESUME_H_
#define ISTHMUS_LAUNCH_RUN_RESUME_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <string>
#include <vector>

#include "launch/run/run_data.h"
#include "model/train/training_model.h"
#include "parallel/mesh.h"
#include "proto/checkpoint.pb.h"
#include "proto/config.pb.h"
#include "runtime/log.h"

namespace isthmus {

struct ResumePlan {
  std::vector<std::string> candidates;  // checkpoints, the first that can be loaded counts; empty: from the beginning
  bool continued = false;               // the run folder holds this run already: its records go on
  bool begins_anew = false;             // it holds records, which are to make room (SetAsideRecords)
  bool while_training = false;          // made by PlanRollback: the run has taken steps already
};

// `how` is "never", "auto", a checkpoint, or a run folder, which stands for its newest checkpoint. "auto" takes the
// newest complete and sound checkpoint of the run folder, and begins anew if there is none at all. Every rank looks,
// and a finding of any rank counts (launch/run/agreed_checkpoint.h). Collective; the same on all ranks. Errors: those
// of FindCheckpoint and ListCheckpoints, of any rank. AlreadyExists if the run folder has checkpoints that are not the
// ones continued. FailedPrecondition if "auto" finds sound and finite ones that were set aside, and no other.
absl::StatusOr<ResumePlan> PlanResume(const std::string& how, const std::string& run_folder, Communicator& world);

// Makes room for a run of `config` that begins anew in a folder with records and without a checkpoint. If metrics.jsonl
// holds steps, it is renamed to the first free name of metrics.jsonl.1, .2, …. If a start ended before its first step,
// it is removed. Returns a message, empty if nothing was kept. It must be called on one rank. Errors: InvalidArgument,
// with nothing changed, if there are steps and config.textproto is another run's; those of the file system.
absl::StatusOr<std::string> SetAsideRecords(const proto::RunConfig& config);

// Returns the plan by which a run that `began` so goes back. It leads to the newest sound checkpoint of its folder
// without a NaN or an infinite value. If there is none, it leads to the state from which the run began. An older one
// that can't be read does not matter then. Collective; the same on all ranks. Errors: those of ListCheckpoints;
// MayBeSound as Restore.
absl::StatusOr<ResumePlan> PlanRollback(const ResumePlan& began, const std::string& run_folder, Communicator& world);

struct RestoredCheckpoint {
  std::string folder;                  // the candidate
  proto::CheckpointManifest manifest;  // without tensors
  std::vector<int64_t> token_gaps;     // of LoadTokenGaps (checkpoint/stored_token_gaps.h)
};

// Loads weights and optimizer state from the plan's first sound candidate. Messages about other candidates, and about
// settings that differ from the checkpoint's, go to the log. Collective; fails on all ranks or none. After an error the
// model may hold a part of what was stored. Errors:
// - FailedPrecondition if no candidate is sound, naming each and what is wrong with it.
// - InvalidArgument if a run of `config` on `data` can't continue the checkpoint's run.
// - MayBeSound, naming the rank, if only that rank can't read it, or if the reason lies outside the checkpoint
//   (permission, open files, a failing disk, a newer format).
absl::StatusOr<RestoredCheckpoint> Restore(const ResumePlan& plan, const proto::RunConfig& config, const RunData& data,
                                           TrainingModel& model, const Mesh& mesh, Log& log);

// Returns true for an error of Restore or PlanRollback after which the unread checkpoint may still be sound. No file
// was changed then.
bool MayBeSound(const absl::Status& status);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_RUN_RESUME_H_
