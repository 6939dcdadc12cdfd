// Says what a sweep takes on machines that need not be there, for `isthmus sweep --plan --device NAME`.
#ifndef ISTHMUS_LAUNCH_SWEEP_SWEEP_PLAN_H_
#define ISTHMUS_LAUNCH_SWEEP_SWEEP_PLAN_H_

#include <absl/status/status.h>

#include <string>
#include <vector>

#include "launch/plan/machine_options.h"
#include "launch/sweep/survey.h"
#include "proto/sweep.pb.h"

namespace isthmus::sweep {

// All runs of one arm in one combination.
struct PlannedArm {
  std::vector<std::string> cell;
  std::string arm;
  std::vector<PlannedRun> runs;
};

// Returns the runs of a whole sweep whose tunings are not extended. Which value of a tuning is the best is unknown: the
// runs after it have its lowest value.
std::vector<PlannedArm> WholeSweep(const proto::SweepConfig& config);

struct SweepPlan {
  std::string text;     // for people: a line for the runs of an arm that are alike, and one for all
  absl::Status status;  // of the first arm that can't be run, or does not fit its device: "arm full: …"
};

// Makes the plan of every configuration of the sweep, as `isthmus plan` does. `config` is of LoadSweep.
SweepPlan PlanSweep(const proto::SweepConfig& config, const MachineOptions& machine);

}  // namespace isthmus::sweep

#endif  // ISTHMUS_LAUNCH_SWEEP_SWEEP_PLAN_H_
