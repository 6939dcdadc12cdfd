#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>
#include <absl/time/time.h>

#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "launch/commands.h"
#include "launch/options.h"
#include "launch/plan/machine_options.h"
#include "launch/run/run_lock.h"
#include "launch/sweep/launcher.h"
#include "launch/sweep/page.h"
#include "launch/sweep/results.h"
#include "launch/sweep/results_json.h"
#include "launch/sweep/survey.h"
#include "launch/sweep/sweep_file.h"
#include "launch/sweep/sweep_plan.h"
#include "launch/sweep/worker.h"
#include "launch/threads.h"
#include "model/resolve.h"
#include "runtime/config.h"
#include "runtime/durable_file.h"
#include "runtime/status.h"
#include "runtime/stop_signals.h"

namespace isthmus {
namespace {

using sweep::ArmSurvey;

constexpr absl::Duration kResultsPatience = absl::Minutes(10);  // others write theirs in seconds

struct SweepArguments {
  std::string path, launcher = "none";
  std::vector<std::string> overrides;
  int64_t jobs = 1, lost_runs = 0;
  bool retry_failed = false, plan = false, stop_once = false;
  MachineOptions machine;
};

Options SweepOptions(SweepArguments& given) {
  Options options("isthmus sweep",
                  "Runs arms over seeds, each with its own best settings, and compares them. Started again it goes on; "
                  "several at once share the work. --plan prints the runs that would start; with --device, and the "
                  "options after it as of `isthmus plan`, it also says what each arm takes on such a machine.");
  options.Add("config", "FILE", "the sweep, text format of proto/sweep.proto", &given.path, true)
      .Add("set", "PATH=VALUE", "override a field of all runs, after those of the sweep", &given.overrides)
      .Add("jobs", "N", "runs at a time, which share the cores", &given.jobs)
      .Add("launcher", "LINE",
           "start runs as LINE isthmus train …, for example \"srun --mpi=pmix --ntasks=8\"; split at blanks, without "
           "quotes; it must hand SIGUSR1 on to the ranks",
           &given.launcher)
      .Add("retry-failed", "", "run again what failed before", &given.retry_failed)
      .Add("lost-runs", "N",
           "how often a run whose rank failed, hung or was killed ends the sweep with status 4, to be started again, "
           "before it counts as failed",
           &given.lost_runs)
      .Add("stop-once", "", "a second signal does not end it at once; for launchers that repeat signals",
           &given.stop_once)
      .Add("plan", "", "print the runs that would start, and start none", &given.plan);
  given.machine.AddTo(options);
  return options;
}

absl::Status CheckArguments(const SweepArguments& given) {
  const auto within = [](const char* name, int64_t value, int64_t least, int64_t most) {
    if (value >= least && value <= most) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("isthmus sweep --", name, ": found ", value, "; accepts ", least, " to ", most));
  };
  ISTHMUS_RETURN_IF_ERROR(within("jobs", given.jobs, 1, 1024));
  ISTHMUS_RETURN_IF_ERROR(within("lost-runs", given.lost_runs, 0, 1000));
  if (given.machine == MachineOptions() || (given.plan && !given.machine.device.empty())) return absl::OkStatus();
  return absl::InvalidArgumentError("isthmus sweep: --world and options of machines need --plan and --device");
}

// Every arm's first run must have a configuration that can be trained, before the first of them starts. A launcher
// starts as many ranks as it likes; they are checked as if it were those of the configuration.
absl::Status CheckRuns(const proto::SweepConfig& config, absl::Span<const ArmSurvey> arms, bool launched) {
  for (const ArmSurvey& arm : arms) {
    if (arm.needed.empty()) continue;
    const std::string source = absl::StrCat(config.base(), " of ", arm.needed[0].name);
    auto resolved = LoadConfig(config.base(), arm.needed[0].overrides);
    absl::Status status = resolved.status();
    absl::StatusOr<int> world = 1;
    if (status.ok() && launched) world = WorldOfConfig(*resolved, source);
    if (status.ok()) status = world.ok() ? ResolveConfig(*resolved, *world, source) : world.status();
    if (!status.ok()) {
      return absl::Status(status.code(), absl::StrCat("arm ", arm.arm, ": ", status.message()));
    }
  }
  return absl::OkStatus();
}

std::string PlanText(absl::Span<const ArmSurvey> arms) {
  std::string text;
  size_t now = 0;
  int64_t later = 0;
  for (const ArmSurvey& arm : arms) {
    for (const sweep::PlannedRun& run : arm.needed) {
      absl::StrAppend(&text, run.name, ": ", absl::StrJoin(run.overrides, " "), "\n");
    }
    now += arm.needed.size();
    later += arm.later;
  }
  absl::StrAppend(&text, now, " runs, and ", later, " at least after them\n");
  return text;
}

absl::Status PrintPlan(const proto::SweepConfig& config, const MachineOptions& machine, sweep::Worker& worker,
                       std::ostream& out) {
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<ArmSurvey> arms, worker.Refresh());
  out << PlanText(arms);
  if (machine.device.empty()) return absl::OkStatus();
  const sweep::SweepPlan plan = sweep::PlanSweep(config, machine);
  out << "\n" << plan.text;
  return plan.status;
}

// Writes what is known of the sweep. Workers may end at once, perhaps on machines where they have the same process
// number: one after the other writes, and each takes over what others have found. So the last one writes most.
absl::Status WriteResults(const proto::SweepConfig& config, sweep::Worker& worker, std::ostream& out) {
  ISTHMUS_ASSIGN_OR_RETURN(const auto lock, RunLock::Take(config.folder() + "/claims", {.patience = kResultsPatience,
                                                                                        .stop = [] { return false; },
                                                                                        .note = [](const auto&) {}}));
  ISTHMUS_RETURN_IF_ERROR(worker.Refresh().status());
  const std::vector<sweep::ArmResult> results = sweep::ResultsOf(config, worker.Survey());
  ISTHMUS_RETURN_IF_ERROR(WriteDurably(config.folder() + "/results.json", sweep::ResultsJson(config, results)));
  const std::string page = config.folder() + "/report.html";
  ISTHMUS_RETURN_IF_ERROR(WriteDurably(page, sweep::SweepPageHtml(config, results)));
  out << sweep::ResultsText(config, results) << page << ": open it in a browser\n";
  return absl::OkStatus();
}

}  // namespace

absl::Status SweepCommand(absl::Span<const std::string> arguments, std::ostream& out) {
  SweepArguments given;
  Options options = SweepOptions(given);
  ISTHMUS_RETURN_IF_ERROR(options.Parse(arguments));
  if (options.help_wanted()) {
    out << options.Help();
    return absl::OkStatus();
  }
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(given));
  ISTHMUS_ASSIGN_OR_RETURN(sweep::Launcher launcher, sweep::Launcher::Of(given.launcher));
  ISTHMUS_ASSIGN_OR_RETURN(proto::SweepConfig config, sweep::LoadSweep(given.path));
  for (const std::string& override : given.overrides) config.add_set(override);
  // A plan finds out by itself which arms its ranks can train.
  if (given.machine.device.empty()) {
    ISTHMUS_RETURN_IF_ERROR(CheckRuns(config, sweep::SurveyArms(config, {}), launcher.launches()));
  }
  const StopSignals signals;
  if (given.stop_once) signals.IgnoreLater();
  sweep::Worker worker(config,
                       {.jobs = static_cast<int>(given.jobs),
                        .threads = std::max(1, ThreadsPerRank(1) / static_cast<int>(given.jobs)),
                        .retry_failed = given.retry_failed,
                        .lost_runs = given.lost_runs,
                        .launcher = std::move(launcher)},
                       signals, out);
  if (given.plan) return PrintPlan(config, given.machine, worker, out);
  const absl::Status status = worker.Work();
  ISTHMUS_RETURN_IF_ERROR(WriteResults(config, worker, out));
  ISTHMUS_RETURN_IF_ERROR(status);
  const auto failed = std::count_if(worker.results().begin(), worker.results().end(), [](const auto& result) {
    return result.second.end == sweep::RunResult::End::kFailed;
  });
  if (failed == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(failed, failed == 1 ? " run" : " runs", " failed; --retry-failed runs them again"));
}

}  // namespace isthmus
