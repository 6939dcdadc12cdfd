// What a start of a run continues from.
#ifndef ISTHMUS_LAUNCH_RUN_RESUME_H_
#define ISTHMUS_LAUNCH_RUN_RESUME_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <string>
#include <vector>

#include "model/training_model.h"
#include "parallel/mesh.h"
#include "proto/checkpoint.pb.h"
#include "proto/config.pb.h"
#include "runtime/data/token_dataset.h"
#include "runtime/log.h"

namespace isthmus {

struct ResumePlan {
  std::vector<std::string> candidates;  // checkpoints, the first that can be loaded counts; empty: from the beginning
  bool continued = false;               // the run folder holds this run already: its records go on
  bool begins_anew = false;             // it holds records, which are to make room (SetAsideRecords)
};

// `how` is "never", "auto", a checkpoint, or a run folder, which stands for its newest checkpoint. "auto" takes the
// newest complete and sound checkpoint of the run folder, and begins anew if there is none at all. Every rank looks,
// and what any of them finds counts (launch/run/agreed_checkpoint.h). Collective; the same on all ranks. Errors: those
// of FindCheckpoint and ListCheckpoints, of any rank; AlreadyExists if the run folder has checkpoints that are not the
// ones continued.
absl::StatusOr<ResumePlan> PlanResume(const std::string& how, const std::string& run_folder, Communicator& world);

// A run folder with records and without a checkpoint, in which a run of `config` is to begin anew: renames
// metrics.jsonl, where it holds steps, to the first of metrics.jsonl.1, .2, … that is free; else, when a start ended
// before its first step, removes it. Returns what is to be said, empty where nothing was kept. On one rank. Errors:
// InvalidArgument, with nothing changed, when there are steps and config.textproto is another run's; those of the file
// system.
absl::StatusOr<std::string> SetAsideRecords(const proto::RunConfig& config);

// Returns the plan by which a run that `began` so goes back. It leads to the newest sound checkpoint of its folder
// without a NaN or an infinite value; if there is none, to what the run began from. Collective; the same on all ranks.
// Errors: those of ListCheckpoints; MayBeSound as Restore.
absl::StatusOr<ResumePlan> PlanRollback(const ResumePlan& began, const std::string& run_folder, Communicator& world);

// Loads weights and optimizer state from the plan's first sound candidate and returns its manifest, without tensors.
// Messages about other candidates, and about settings that differ from the checkpoint's, go to the log. Collective;
// fails on all ranks or none. Errors: FailedPrecondition if no candidate is sound, naming each and what is wrong with
// it; InvalidArgument if a run of `config` on `samples` can't continue the checkpoint's run; MayBeSound, naming the
// rank, if the reason lies outside the checkpoint (permission, open files, a failing disk, a newer format) or only one
// rank can't read it.
absl::StatusOr<proto::CheckpointManifest> Restore(const ResumePlan& plan, const proto::RunConfig& config,
                                                  const SampleSet& samples, TrainingModel& model, const Mesh& mesh,
                                                  Log& log);

// True for an error of Restore or PlanRollback after which the unread checkpoint may still be sound. Nothing was
// changed then.
bool MayBeSound(const absl::Status& status);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_RUN_RESUME_H_
