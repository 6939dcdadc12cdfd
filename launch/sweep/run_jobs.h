// The runs of a sweep, as jobs.
#ifndef ISTHMUS_LAUNCH_SWEEP_RUN_JOBS_H_
#define ISTHMUS_LAUNCH_SWEEP_RUN_JOBS_H_

#include <absl/status/status.h>

#include <cstdint>
#include <string>
#include <vector>

#include "launch/sweep/jobs.h"
#include "launch/sweep/survey.h"
#include "proto/sweep.pb.h"

namespace isthmus::sweep {

class RunJobs : public Jobs {
 public:
  // `config` is of LoadSweep. It must outlive the object.
  explicit RunJobs(const proto::SweepConfig& config) : config_(config) {}

  std::vector<Job> Needed(const RunResults& results) const override;
  int64_t Left(const RunResults& results) const override;
  // Returns FailedPrecondition: somebody may want to keep that run.
  absl::Status OnOtherSettings(const Job& job) const override;
  RunResult ResultOf(const Job& job, int exit_status) const override;
  std::string Describe(const RunResult& result) const override;
  std::string Name() const override { return "runs"; }
  std::string Stopped() const override { return "the sweep's runs have saved; start it again to go on"; }

 private:
  const proto::SweepConfig& config_;
};

}  // namespace isthmus::sweep

#endif  // ISTHMUS_LAUNCH_SWEEP_RUN_JOBS_H_
