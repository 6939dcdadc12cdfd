// Does the jobs of a sweep, a few at a time, until nothing is left or a signal comes. Any number of workers, on any
// machines that share the sweep's folder, work on it together: each takes a job by a lock that no other can take.
#ifndef ISTHMUS_LAUNCH_SWEEP_WORKER_H_
#define ISTHMUS_LAUNCH_SWEEP_WORKER_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <ostream>
#include <set>
#include <string>
#include <vector>

#include "launch/run/run_lock.h"
#include "launch/sweep/jobs.h"
#include "launch/sweep/launcher.h"
#include "launch/sweep/run_process.h"
#include "launch/sweep/survey.h"

namespace isthmus::sweep {

struct WorkerOptions {
  int jobs = 1;               // at a time
  int threads = 1;            // of each
  bool retry_failed = false;  // does once more what failed before
  // So many times a lost job (lost_runs.h) ends the worker, to be started again elsewhere. Then it counts as failed.
  int64_t lost_runs = 0;
  Launcher launcher;
};

class Worker {
 public:
  // `jobs` and `out` must outlive the worker. `folder` is the sweep's. Lines for people go to `out`.
  Worker(const Jobs& jobs, const std::string& folder, const WorkerOptions& options, std::ostream& out)
      : jobs_(jobs), folder_(folder), options_(options), out_(out) {}

  // Reads the results that are there, then does what is needed and waits for what other workers do. Errors: Cancelled
  // after a signal (StopSignals::latest), and Unavailable after a lost job, when its jobs have saved; those of a job's
  // configuration, and of OnOtherSettings; by errno for the folder. A failed job is no error here.
  absl::Status Work();
  // Takes over results from the folder until no job that is needed has one. Returns those jobs.
  absl::StatusOr<std::vector<Job>> Refresh();
  // Returns the results that Work and Refresh know.
  const RunResults& results() const { return results_; }

 private:
  struct Running {
    Job job;
    std::unique_ptr<RunLock> claim;
    std::unique_ptr<RunProcess> process;
    double start = 0;  // seconds
  };

  absl::StatusOr<std::string> SettingsOf(const Job& job);
  // Reads the result of one job. Returns whether there is one.
  absl::StatusOr<bool> Read(const Job& job);
  // Starts jobs that nobody has, as many as may run.
  absl::Status StartSome(const std::vector<Job>& needed);
  absl::Status Start(const Job& job, std::unique_ptr<RunLock> claim);
  // Keeps the results of jobs that have ended.
  absl::Status EndSome();
  // Asks all jobs to save, and waits until they have ended.
  absl::Status Stop();
  // Returns whether a job that ended so is to be tried again by a later start, and counts that.
  absl::StatusOr<bool> IsTriedAgain(const Job& job, int exit_status, const std::string& reason);
  absl::Status Keep(const Running& running, int exit_status);
  void Say();

  const Jobs& jobs_;
  const std::string folder_;
  const WorkerOptions options_;
  std::ostream& out_;
  RunResults results_;
  std::map<std::string, std::string> settings_;  // by job: digests
  std::set<std::string> retried_;
  std::vector<Running> running_;
  double job_seconds_ = 0;  // of the jobs that have ended here
  int64_t ended_ = 0;
  bool stops_ = false;  // its jobs have been asked to save
  absl::Status lost_;   // what to say of a lost job
};

}  // namespace isthmus::sweep

#endif  // ISTHMUS_LAUNCH_SWEEP_WORKER_H_
