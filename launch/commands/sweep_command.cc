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
#include "launch/sweep/decomposition_jobs.h"
#include "launch/sweep/decomposition_results.h"
#include "launch/sweep/decompositions.h"
#include "launch/sweep/launcher.h"
#include "launch/sweep/page.h"
#include "launch/sweep/results.h"
#include "launch/sweep/results_json.h"
#include "launch/sweep/run_jobs.h"
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

// The runs that compare must leave what their decomposition needs, before the first of them starts.
absl::Status CheckDecomposedRuns(const proto::SweepConfig& config) {
  if (!config.has_decomposition()) return absl::OkStatus();
  for (const sweep::PlannedArm& arm : sweep::WholeSweep(config)) {
    if (!sweep::IsDecomposed(config.decomposition(), arm.arm)) continue;
    // The first runs of an arm tune it, perhaps with other settings. The last one compares.
    ISTHMUS_ASSIGN_OR_RETURN(const proto::RunConfig run, LoadConfig(config.base(), arm.runs.back().overrides));
    if (const absl::Status status = sweep::CheckLeavesCheckpoint(run); !status.ok()) {
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

// The two kinds of jobs of a sweep, and who does them.
struct Workers {
  sweep::RunJobs runs;
  sweep::DecompositionJobs decompositions;
  sweep::Worker runner, decomposer;

  Workers(const proto::SweepConfig& config, const sweep::WorkerOptions& options, std::ostream& out)
      : runs(config),
        decompositions(config),
        runner(runs, config.folder(), options, out),
        decomposer(decompositions, config.folder(), options, out) {}
};

// Takes over all results that are there. Returns the survey of the runs.
absl::StatusOr<std::vector<ArmSurvey>> Refresh(const proto::SweepConfig& config, Workers& workers) {
  ISTHMUS_RETURN_IF_ERROR(workers.runner.Refresh().status());
  std::vector<ArmSurvey> arms = sweep::SurveyArms(config, workers.runner.results());
  workers.decompositions.Plan(arms);
  ISTHMUS_RETURN_IF_ERROR(workers.decomposer.Refresh().status());
  return arms;
}

// Returns the decompositions that would start, and how many follow runs.
std::string DecompositionPlanText(const proto::SweepConfig& config, const Workers& workers) {
  std::string text;
  if (!config.has_decomposition()) return text;
  const sweep::RunResults& results = workers.decomposer.results();
  for (const sweep::PlannedDecomposition& one : workers.decompositions.planned()) {
    if (results.count(one.name) > 0) continue;
    absl::StrAppend(&text, one.name, ": isthmus ", absl::StrJoin(sweep::ArgumentsOf(config, one), " "), "\n");
  }
  const auto planned = static_cast<int64_t>(workers.decompositions.planned().size());
  absl::StrAppend(&text, workers.decompositions.Left(results), " decompositions, and ",
                  sweep::LaterDecompositions(config, planned), " after their runs\n");
  return text;
}

absl::Status PrintPlan(const proto::SweepConfig& config, const MachineOptions& machine, Workers& workers,
                       std::ostream& out) {
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<ArmSurvey> arms, Refresh(config, workers));
  out << PlanText(arms) << DecompositionPlanText(config, workers);
  if (machine.device.empty()) return absl::OkStatus();
  const sweep::SweepPlan plan = sweep::PlanSweep(config, machine);
  out << "\n" << plan.text;
  return plan.status;
}

// Does what is left of the sweep: its runs, then the decompositions of what they left.
absl::Status Work(const proto::SweepConfig& config, Workers& workers) {
  ISTHMUS_RETURN_IF_ERROR(workers.runner.Work());
  workers.decompositions.Plan(sweep::SurveyArms(config, workers.runner.results()));
  return workers.decomposer.Work();
}

// Writes what is known of the sweep. Workers may end at once, perhaps on machines where they have the same process
// number: one after the other writes, and each takes over what others have found. So the last one writes most.
absl::Status WriteResults(const proto::SweepConfig& config, Workers& workers, std::ostream& out) {
  ISTHMUS_ASSIGN_OR_RETURN(const auto lock, RunLock::Take(config.folder() + "/claims", {.patience = kResultsPatience,
                                                                                        .stop = [] { return false; },
                                                                                        .note = [](const auto&) {}}));
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<ArmSurvey> arms, Refresh(config, workers));
  const std::vector<sweep::ArmResult> results = sweep::ResultsOf(config, arms);
  const auto decomposed =
      sweep::DecompositionResultsOf(config, workers.decompositions.planned(), workers.decomposer.results());
  ISTHMUS_RETURN_IF_ERROR(
      WriteDurably(config.folder() + "/results.json", sweep::ResultsJson(config, results, decomposed)));
  const std::string page = config.folder() + "/report.html";
  ISTHMUS_RETURN_IF_ERROR(WriteDurably(page, sweep::SweepPageHtml(config, results, decomposed)));
  out << sweep::ResultsText(config, results) << sweep::DecompositionsText(config, decomposed) << page
      << ": open it in a browser\n";
  return absl::OkStatus();
}

// Returns "2 runs", "1 decomposition", or nothing for none.
std::string FailedText(const sweep::RunResults& results, const char* what) {
  const auto failed = std::count_if(results.begin(), results.end(), [](const auto& result) {
    return result.second.end == sweep::RunResult::End::kFailed;
  });
  return failed == 0 ? "" : absl::StrCat(failed, " ", what, failed == 1 ? "" : "s");
}

absl::Status FailuresOf(const sweep::RunResults& runs, const sweep::RunResults& decompositions) {
  std::vector<std::string> failed = {FailedText(runs, "run"), FailedText(decompositions, "decomposition")};
  failed.erase(std::remove(failed.begin(), failed.end(), ""), failed.end());
  if (failed.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(absl::StrJoin(failed, " and "), " failed; --retry-failed runs them again"));
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
    ISTHMUS_RETURN_IF_ERROR(CheckDecomposedRuns(config));
  }
  const sweep::WorkerOptions worker_options{.jobs = static_cast<int>(given.jobs),
                                            .threads = std::max(1, ThreadsPerRank(1) / static_cast<int>(given.jobs)),
                                            .retry_failed = given.retry_failed,
                                            .lost_runs = given.lost_runs,
                                            .launcher = std::move(launcher)};
  Workers workers(config, worker_options, out);
  if (given.plan) return PrintPlan(config, given.machine, workers, out);
  const StopSignals signals;
  if (given.stop_once) signals.IgnoreLater();
  const absl::Status status = Work(config, workers);
  ISTHMUS_RETURN_IF_ERROR(WriteResults(config, workers, out));
  ISTHMUS_RETURN_IF_ERROR(status);
  return FailuresOf(workers.runner.results(), workers.decomposer.results());
}

}  // namespace isthmus
