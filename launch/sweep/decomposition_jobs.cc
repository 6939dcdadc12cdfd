#include "launch/sweep/decomposition_jobs.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <utility>

#include "launch/sweep/decomposition_figures.h"
#include "launch/sweep/run_record.h"

namespace isthmus::sweep {

std::vector<Job> DecompositionJobs::Needed(const RunResults& results) const {
  std::vector<Job> jobs;
  for (const PlannedDecomposition& planned : planned_) {
    if (results.count(planned.name) > 0) continue;
    const std::string folder = FolderOfDecomposition(config_, planned);
    Job job = {.name = planned.name,
               .folder = folder,
               .claim = absl::StrCat(config_.folder(), "/claims/decompositions/", planned.name),
               .arguments = ArgumentsOf(config_, planned),
               .settings = [this, planned] { return DecompositionDigest(config_, planned); }};
    job.arguments.insert(job.arguments.end(), {"--json", FiguresPath(folder)});
    jobs.push_back(std::move(job));
  }
  return jobs;
}

int64_t DecompositionJobs::Left(const RunResults& results) const {
  return std::count_if(planned_.begin(), planned_.end(),
                       [&](const PlannedDecomposition& planned) { return results.count(planned.name) == 0; });
}

RunResult DecompositionJobs::ResultOf(const Job& job, int exit_status) const {
  if (exit_status != 0) return FailureOf(exit_status, job.folder + "/sweep.log");
  const auto figures = ReadDecomposition(FiguresPath(job.folder));
  if (figures.ok()) return {.loss = figures->loss};
  return {.end = RunResult::End::kFailed, .reason = std::string(figures.status().message())};
}

}  // namespace isthmus::sweep
