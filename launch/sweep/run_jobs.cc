#include "launch/sweep/run_jobs.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include "launch/sweep/run_record.h"

namespace isthmus::sweep {
namespace {

std::vector<std::string> CommandLine(const std::string& base, const std::string& folder, const PlannedRun& run) {
  std::vector<std::string> line = {"train", "--config", base, "--resume", "auto", "--progress", "plain", "--stop-once"};
  for (const std::string& override : run.overrides) line.insert(line.end(), {"--set", override});
  line.insert(line.end(), {"--set", absl::StrCat("folder=", folder)});
  return line;
}

}  // namespace

std::vector<Job> RunJobs::Needed(const RunResults& results) const {
  std::vector<Job> jobs;
  for (const ArmSurvey& arm : SurveyArms(config_, results)) {
    for (const PlannedRun& run : arm.needed) {
      const std::string folder = absl::StrCat(config_.folder(), "/", run.name);
      jobs.push_back({.name = run.name,
                      .folder = folder,
                      .claim = absl::StrCat(config_.folder(), "/claims/", run.name),
                      .arguments = CommandLine(config_.base(), folder, run),
                      .settings = [base = config_.base(), run] { return SettingsDigest(base, run); }});
    }
  }
  return jobs;
}

int64_t RunJobs::Left(const RunResults& results) const {
  int64_t left = 0;
  for (const ArmSurvey& arm : SurveyArms(config_, results)) left += static_cast<int64_t>(arm.needed.size()) + arm.later;
  return left;
}

absl::Status RunJobs::OnOtherSettings(const Job& job) const {
  return absl::FailedPreconditionError(
      absl::StrCat(job.folder, ": holds a run of other settings; give the sweep another folder, or remove this one"));
}

RunResult RunJobs::ResultOf(const Job& job, int exit_status) const {
  return ResultOfRun(job.folder, exit_status, job.folder + "/sweep.log");
}

std::string RunJobs::Describe(const RunResult& result) const { return absl::StrFormat("loss %.4f", result.loss); }

}  // namespace isthmus::sweep
