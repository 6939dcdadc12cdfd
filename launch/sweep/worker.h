// Runs what a sweep needs, a few runs at a time, until nothing is left or a signal comes. Any number of workers, on any
// machines that share the sweep's folder, work on it together: each takes a run by a lock that no other can take.
#ifndef ISTHMUS_LAUNCH_SWEEP_WORKER_H_
#define ISTHMUS_LAUNCH_SWEEP_WORKER_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <ostream>
#include <set>
#include <string>
#include <vector>

#include "launch/run/run_lock.h"
#include "launch/sweep/launcher.h"
#include "launch/sweep/run_process.h"
#include "launch/sweep/run_record.h"
#include "launch/sweep/survey.h"
#include "proto/sweep.pb.h"
#include "runtime/stop_signals.h"

namespace isthmus::sweep {

struct WorkerOptions {
  int jobs = 1;               // runs at a time
  int threads = 1;            // of each
  bool retry_failed = false;  // runs once more what failed before
  // So many times a lost run (lost_runs.h) ends the worker, to be started again elsewhere. Then it counts as failed.
  int64_t lost_runs = 0;
  Launcher launcher;
};

class Worker {
 public:
  // All must outlive the worker. `config` is of LoadSweep. Lines for people go to `out`.
  Worker(const proto::SweepConfig& config, const WorkerOptions& options, const StopSignals& signals, std::ostream& out)
      : config_(config), options_(options), signals_(signals), out_(out) {}

  // Reads the results that are there, then runs what is needed and waits for what other workers run. Errors: Cancelled
  // after a signal, and Unavailable after a lost run, when its runs have saved; those of a run's configuration;
  // FailedPrecondition for a result that other settings gave; by errno for the folder. A failed run is no error here.
  absl::Status Work();
  // Takes over results from the folder until the survey needs no run that has one. Returns the survey.
  absl::StatusOr<std::vector<ArmSurvey>> Refresh();
  // Returns the results that Work knows.
  const RunResults& results() const { return results_; }
  // Returns the survey of them.
  std::vector<ArmSurvey> Survey() const { return SurveyArms(config_, results_); }

 private:
  struct Running {
    PlannedRun run;
    std::unique_ptr<RunLock> claim;
    std::unique_ptr<RunProcess> process;
    double start = 0;  // seconds
  };

  std::string FolderOf(const PlannedRun& run) const { return config_.folder() + "/" + run.name; }
  std::string ClaimOf(const PlannedRun& run) const { return config_.folder() + "/claims/" + run.name; }
  absl::StatusOr<std::string> DigestOf(const PlannedRun& run);
  // Reads the result of one run. Returns whether there is one.
  absl::StatusOr<bool> Read(const PlannedRun& run);
  // Starts needed runs that nobody has, as many as may run.
  absl::Status StartRuns(const std::vector<ArmSurvey>& arms);
  absl::Status StartRun(const PlannedRun& run, std::unique_ptr<RunLock> claim);
  // Keeps the results of runs that have ended.
  absl::Status EndRuns();
  // Asks all runs to save, and waits until they have ended.
  absl::Status StopRuns();
  // Returns whether a run that ended so is to be tried again by a later start, and counts that.
  absl::StatusOr<bool> IsTriedAgain(const Running& running, int exit_status, const std::string& reason);
  absl::Status Keep(const Running& running, int exit_status);
  void Say(const std::vector<ArmSurvey>& arms);

  const proto::SweepConfig& config_;
  const WorkerOptions options_;
  const StopSignals& signals_;
  std::ostream& out_;
  RunResults results_;
  std::map<std::string, std::string> digests_;  // by run: settings
  std::set<std::string> retried_;
  std::vector<Running> running_;
  double run_seconds_ = 0;  // of the runs that have ended here
  int64_t ended_ = 0;
  bool stops_ = false;  // its runs have been asked to save
  absl::Status lost_;   // what to say of a lost run
};

}  // namespace isthmus::sweep

#endif  // ISTHMUS_LAUNCH_SWEEP_WORKER_H_
