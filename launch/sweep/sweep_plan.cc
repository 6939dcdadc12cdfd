#include "launch/sweep/sweep_plan.h"

#include <absl/status/statusor.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>
#include <absl/types/span.h>

#include <cstdint>
#include <map>
#include <utility>

#include "launch/plan/plan.h"
#include "launch/plan/plan_report.h"
#include "model/compute_type.h"
#include "runtime/config.h"
#include "runtime/status.h"

namespace isthmus::sweep {
namespace {

// Runs that are alike: only their seeds, and settings that change neither memory nor time, differ.
struct AlikeRuns {
  std::string figures;
  int64_t runs = 0;
  double hours = 0;  // of one of them
  int world = 1;
};

class SweepPlanner {
 public:
  SweepPlanner(const proto::SweepConfig& config, const MachineOptions& options) : config_(config), options_(options) {}

  // Adds the lines of an arm, and its runs to the sum.
  void Add(const PlannedArm& arm) {
    const std::string name =
        arm.cell.empty() ? arm.arm : absl::StrCat(arm.arm, " (", absl::StrJoin(arm.cell, ", "), ")");
    std::vector<AlikeRuns> groups;
    for (const PlannedRun& run : arm.runs) {
      absl::StatusOr<AlikeRuns> planned = FiguresOf(run);
      if (!planned.ok()) {
        Refuse(absl::Status(planned.status().code(), absl::StrCat("arm ", name, ": ", planned.status().message())));
        absl::StrAppend(&plan_.text, name, ": ", planned.status().message(), "\n");
        return;
      }
      bool found = false;
      for (AlikeRuns& group : groups) {
        if (group.figures != planned->figures) continue;
        ++group.runs;
        found = true;
      }
      if (!found) groups.push_back(*std::move(planned));
    }
    for (const AlikeRuns& group : groups) AddLine(name, group);
  }

  SweepPlan Take() {
    absl::StrAppendFormat(&plan_.text,
                          "all: %d runs, %.4g hours one after the other, %.4g device hours; tunings are not extended, "
                          "and measurements not counted\n",
                          runs_, hours_, device_hours_);
    return std::move(plan_);
  }

 private:
  void Refuse(const absl::Status& status) {
    if (plan_.status.ok()) plan_.status = status;
  }

  void AddLine(const std::string& name, const AlikeRuns& group) {
    const double hours = static_cast<double>(group.runs) * group.hours;
    absl::StrAppend(&plan_.text, name, ": ", group.figures,
                    absl::StrFormat("; %d %s, %.4g hours, %.4g device hours\n", group.runs,
                                    group.runs == 1 ? "run" : "runs", hours, hours * group.world));
    runs_ += group.runs;
    hours_ += hours;
    device_hours_ += hours * group.world;
    if (const auto refused = refused_.find(group.figures); refused != refused_.end()) {
      Refuse(absl::FailedPreconditionError(absl::StrCat("arm ", name, ": ", refused->second)));
    }
  }

  // The last override of a run is its seed, which changes no plan.
  absl::StatusOr<AlikeRuns> FiguresOf(const PlannedRun& run) {
    const std::string key = absl::StrJoin(absl::MakeConstSpan(run.overrides).first(run.overrides.size() - 1), "\n");
    const auto known = known_.find(key);
    if (known != known_.end()) return known->second;
    absl::StatusOr<AlikeRuns> figures = MakeFigures(run);
    known_.emplace(key, figures);
    return figures;
  }

  absl::StatusOr<AlikeRuns> MakeFigures(const PlannedRun& run) {
    ISTHMUS_ASSIGN_OR_RETURN(const proto::RunConfig config, LoadConfig(config_.base(), run.overrides));
    const std::string source = absl::StrCat(config_.base(), " of ", run.name);
    ISTHMUS_ASSIGN_OR_RETURN(const int world, options_.WorldOf(config, source));
    ISTHMUS_ASSIGN_OR_RETURN(const Machine machine, MachineOf(ComputeType(config.precision()), world));
    ISTHMUS_ASSIGN_OR_RETURN(const Plan plan, MakePlan(config, machine, world, source));
    const AlikeRuns figures{
        .figures = absl::StrFormat("%d × %s, %s; a step %.4g ms, a run %.4g hours", world, machine.device.name,
                                   FitText(plan), 1e3 * plan.step.time.Total(), plan.Hours()),
        .runs = 1,
        .hours = plan.Hours(),
        .world = world};
    if (!plan.Fits()) {
      refused_[figures.figures] =
          absl::StrCat(FitText(plan), "; `isthmus plan` with the arm's overrides lists meshes that fit");
    }
    return figures;
  }

  // A CPU is measured once for all arms of one type.
  absl::StatusOr<Machine> MachineOf(DType compute_type, int world) {
    const auto key = std::pair(compute_type, world);
    if (const auto known = machines_.find(key); known != machines_.end()) return known->second;
    ISTHMUS_ASSIGN_OR_RETURN(const Machine machine, options_.MachineOf(compute_type, world));
    machines_.emplace(key, machine);
    return machine;
  }

  const proto::SweepConfig& config_;
  const MachineOptions& options_;
  std::map<std::string, absl::StatusOr<AlikeRuns>> known_;  // by overrides
  std::map<std::string, std::string> refused_;              // why, by figures
  std::map<std::pair<DType, int>, Machine> machines_;
  SweepPlan plan_;
  int64_t runs_ = 0;
  double hours_ = 0, device_hours_ = 0;
};

}  // namespace

std::vector<PlannedArm> WholeSweep(const proto::SweepConfig& config) {
  proto::SweepConfig bounded = config;
  for (proto::SweepTuning& tuning : *bounded.mutable_tunings()) tuning.set_extend(0);
  // The survey says what follows results. If all losses are the same, the lowest value is the best.
  RunResults results;
  std::vector<PlannedArm> whole;
  for (bool found = true; found;) {
    found = false;
    const std::vector<ArmSurvey> arms = SurveyArms(bounded, results);
    whole.resize(arms.size());
    for (size_t i = 0; i < arms.size(); ++i) {
      whole[i].cell = arms[i].cell;
      whole[i].arm = arms[i].arm;
      for (const PlannedRun& run : arms[i].needed) {
        if (!results.emplace(run.name, RunResult{.loss = 1}).second) continue;
        whole[i].runs.push_back(run);
        found = true;
      }
    }
  }
  return whole;
}

SweepPlan PlanSweep(const proto::SweepConfig& config, const MachineOptions& machine) {
  SweepPlanner planner(config, machine);
  for (const PlannedArm& arm : WholeSweep(config)) planner.Add(arm);
  return planner.Take();
}

}  // namespace isthmus::sweep
