// Finds out what is known of a sweep, and which runs it still needs, from the results of its runs alone. So an
// interrupted sweep goes on where it was, and several programs that work on one sweep need no other agreement.
//
// An arm is tuned first, setting by setting: each value runs with the tuning seeds, and the one of lowest mean loss
// stays. If it is an end of the values, they are extended by the same ratio. Then the arm runs with all seeds at its
// settings. A run that both need runs once.
#ifndef ISTHMUS_LAUNCH_SWEEP_SURVEY_H_
#define ISTHMUS_LAUNCH_SWEEP_SURVEY_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "launch/sweep/statistics.h"
#include "proto/sweep.pb.h"

namespace isthmus::sweep {

struct PlannedRun {
  // Its folder in that of the sweep: "V=1024/full/rate=0.001/seed-1".
  std::string name;
  std::vector<std::string> overrides;  // of the base, in order; without the folder

  friend bool operator==(const PlannedRun&, const PlannedRun&) = default;
};

struct RunResult {
  enum class End {
    kFinished,
    kDiverged,  // counts as an infinite loss
    kFailed,    // says nothing of the arm
  };
  End end = End::kFinished;
  double loss = 0;     // of a finished one
  std::string reason;  // of the others, for people
};
using RunResults = std::map<std::string, RunResult>;  // by name

// One setting of an arm, as far as it is known.
struct TunedSetting {
  std::string name;
  std::vector<RatedLoss> values;  // ascending; those whose runs have all ended; mean losses, infinite for diverged ones
  std::optional<BestRate> best;   // once it is decided
};

struct SeedResult {
  uint64_t seed = 0;
  std::string run;
  std::optional<RunResult> result;
};

// One arm in one combination of the axes' values.
struct ArmSurvey {
  std::vector<std::string> cell;  // a value's name for each axis
  std::string arm;
  std::vector<TunedSetting> tunings;
  std::vector<SeedResult> seeds;   // empty until all settings are tuned
  std::vector<PlannedRun> needed;  // that can run now
  int64_t later = 0;               // runs at least that follow them
  std::vector<std::string> problems;

  bool complete() const { return needed.empty(); }
};

// Returns all arms, those of one combination beside each other. `config` is of LoadSweep.
std::vector<ArmSurvey> SurveyArms(const proto::SweepConfig& config, const RunResults& results);

// Returns the difference of an arm to the baseline in the same combination, over the seeds that finished in both. Errors:
// as EstimateDifference. A seed that diverged or failed in one of them is left out, and named in `missing`.
absl::StatusOr<Estimate> CompareArms(const ArmSurvey& arm, const ArmSurvey& baseline, double confidence,
                                     std::vector<std::string>& missing);

}  // namespace isthmus::sweep

#endif  // ISTHMUS_LAUNCH_SWEEP_SURVEY_H_
