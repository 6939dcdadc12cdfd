#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "launch/commands.h"
#include "launch/options.h"
#include "launch/sweep/page.h"
#include "launch/sweep/results.h"
#include "launch/sweep/results_json.h"
#include "launch/sweep/survey.h"
#include "launch/sweep/sweep_file.h"
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

// Every arm's first run must have a configuration that can be trained, before the first of them starts.
absl::Status CheckRuns(const proto::SweepConfig& config, absl::Span<const ArmSurvey> arms) {
  for (const ArmSurvey& arm : arms) {
    if (arm.needed.empty()) continue;
    const std::string source = absl::StrCat(config.base(), " of ", arm.needed[0].name);
    auto resolved = LoadConfig(config.base(), arm.needed[0].overrides);
    absl::Status status = resolved.status();
    if (status.ok()) status = ResolveConfig(*resolved, /*world_size=*/1, source);
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

}  // namespace

absl::Status SweepCommand(absl::Span<const std::string> arguments, std::ostream& out) {
  std::string path;
  std::vector<std::string> overrides;
  int64_t jobs = 1;
  bool retry_failed = false, plan = false;
  Options options("isthmus sweep",
                  "Runs arms over seeds, each with its own best settings, and compares them. Started again it goes on; "
                  "several at once share the work.");
  options.Add("config", "FILE", "the sweep, text format of proto/sweep.proto", &path, true)
      .Add("set", "PATH=VALUE", "override a field of all runs, after those of the sweep", &overrides)
      .Add("jobs", "N", "runs at a time, which share the cores", &jobs)
      .Add("retry-failed", "", "run again what failed before", &retry_failed)
      .Add("plan", "", "print the runs that would start, and start none", &plan);
  ISTHMUS_RETURN_IF_ERROR(options.Parse(arguments));
  if (options.help_wanted()) {
    out << options.Help();
    return absl::OkStatus();
  }
  const int cores = ThreadsPerRank(1);
  if (jobs < 1 || jobs > 1024) {
    return absl::InvalidArgumentError(absl::StrCat("isthmus sweep --jobs: found ", jobs, "; accepts 1 to 1024"));
  }
  ISTHMUS_ASSIGN_OR_RETURN(proto::SweepConfig config, sweep::LoadSweep(path));
  for (const std::string& override : overrides) config.add_set(override);
  ISTHMUS_RETURN_IF_ERROR(CheckRuns(config, sweep::SurveyArms(config, {})));
  const StopSignals signals;
  sweep::Worker worker(config,
                       {.jobs = static_cast<int>(jobs),
                        .threads = std::max(1, cores / static_cast<int>(jobs)),
                        .retry_failed = retry_failed},
                       signals, out);
  if (plan) {
    ISTHMUS_ASSIGN_OR_RETURN(const std::vector<ArmSurvey> arms, worker.Refresh());
    out << PlanText(arms);
    return absl::OkStatus();
  }
  const absl::Status status = worker.Work();
  const std::vector<sweep::ArmResult> results = sweep::ResultsOf(config, worker.Survey());
  ISTHMUS_RETURN_IF_ERROR(WriteDurably(config.folder() + "/results.json", sweep::ResultsJson(config, results)));
  const std::string page = config.folder() + "/report.html";
  ISTHMUS_RETURN_IF_ERROR(WriteDurably(page, sweep::SweepPageHtml(config, results)));
  out << sweep::ResultsText(config, results) << page << ": open it in a browser\n";
  ISTHMUS_RETURN_IF_ERROR(status);
  const auto failed = std::count_if(worker.results().begin(), worker.results().end(), [](const auto& result) {
    return result.second.end == sweep::RunResult::End::kFailed;
  });
  if (failed == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(failed, failed == 1 ? " run" : " runs", " failed; --retry-failed runs them again"));
}

}  // namespace isthmus
