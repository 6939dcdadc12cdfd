// The decompositions of a sweep, as jobs.
#ifndef ISTHMUS_LAUNCH_SWEEP_DECOMPOSITION_JOBS_H_
#define ISTHMUS_LAUNCH_SWEEP_DECOMPOSITION_JOBS_H_

#include <absl/status/status.h>
#include <absl/types/span.h>

#include <cstdint>
#include <string>
#include <vector>

#include "launch/sweep/decompositions.h"
#include "launch/sweep/jobs.h"
#include "launch/sweep/survey.h"
#include "proto/sweep.pb.h"

namespace isthmus::sweep {

class DecompositionJobs : public Jobs {
 public:
  // `config` must outlive the object, which has no jobs before Plan.
  explicit DecompositionJobs(const proto::SweepConfig& config) : config_(config) {}

  // Finds out which there are, as PlanDecompositions does.
  void Plan(absl::Span<const ArmSurvey> arms) { planned_ = PlanDecompositions(config_, arms); }
  const std::vector<PlannedDecomposition>& planned() const { return planned_; }

  std::vector<Job> Needed(const RunResults& results) const override;
  int64_t Left(const RunResults& results) const override;
  // Returns OK: a decomposition of another checkpoint in the same place is made again.
  absl::Status OnOtherSettings(const Job&) const override { return absl::OkStatus(); }
  // The loss is that of the decomposed tokens.
  RunResult ResultOf(const Job& job, int exit_status) const override;
  std::string Describe(const RunResult&) const override { return "decomposed"; }
  std::string Name() const override { return "decompositions"; }
  std::string Stopped() const override { return "the sweep's runs have ended; start it again for the decompositions"; }

 private:
  const proto::SweepConfig& config_;
  std::vector<PlannedDecomposition> planned_;
};

}  // namespace isthmus::sweep

#endif  // ISTHMUS_LAUNCH_SWEEP_DECOMPOSITION_JOBS_H_
