// Says which decompositions a sweep asks for: of the last checkpoints of its runs, and of checkpoints that its file names.
#ifndef ISTHMUS_LAUNCH_SWEEP_DECOMPOSITIONS_H_
#define ISTHMUS_LAUNCH_SWEEP_DECOMPOSITIONS_H_

#include <absl/status/status.h>
#include <absl/types/span.h>

#include <cstdint>
#include <string>
#include <vector>

#include "launch/sweep/survey.h"
#include "proto/config.pb.h"
#include "proto/sweep.pb.h"

namespace isthmus::sweep {

// One checkpoint in one context.
struct PlannedDecomposition {
  // Its folder in FOLDER/decompositions: "runs/V=1024/full/seed-1/context-128", "checkpoints/gpt2/context-own".
  std::string name;
  std::string checkpoint;           // a checkpoint, or a run folder: its newest one
  std::string corpus;               // empty: of data.spamlang
  int64_t sequence_length = 0;      // 0: the model's own
  std::string given;                // the name that the sweep's file gives it; empty: it is a run's
  std::vector<std::string> cell{};  // of a run, as are those below
  std::string arm{};
  uint64_t seed = 0;
};

// Returns those of the runs that have finished at their arm's settings, in the order of the survey, and then those of named
// checkpoints. Returns none if the sweep asks for none.
std::vector<PlannedDecomposition> PlanDecompositions(const proto::SweepConfig& config,
                                                     absl::Span<const ArmSurvey> arms);
// Returns how many more there will be at least, once all runs have finished.
int64_t LaterDecompositions(const proto::SweepConfig& config, int64_t planned);

// Returns whether the runs of an arm are decomposed.
bool IsDecomposed(const proto::SweepDecomposition& decomposition, const std::string& arm);
// Checks that a run which compares leaves what its decomposition needs. Errors: InvalidArgument "field: found; accepted".
absl::Status CheckLeavesCheckpoint(const proto::RunConfig& run);

// Returns where the records, the figures and the output of one are.
std::string FolderOfDecomposition(const proto::SweepConfig& config, const PlannedDecomposition& planned);
std::string FiguresPath(const std::string& decomposition_folder);
// Returns what comes after `isthmus`, without --json.
std::vector<std::string> ArgumentsOf(const proto::SweepConfig& config, const PlannedDecomposition& planned);
// Returns a digest of all that decides the figures: settings, the corpus, and which checkpoint it is. A run folder that
// has got another newest checkpoint gives another digest. The place of the checkpoint does not count.
std::string DecompositionDigest(const proto::SweepConfig& config, const PlannedDecomposition& planned);

}  // namespace isthmus::sweep

#endif  // ISTHMUS_LAUNCH_SWEEP_DECOMPOSITIONS_H_
