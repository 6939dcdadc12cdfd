// Jobs are what workers of a sweep share (worker.h): programs that each leave one record. One kind of them are runs
// (run_jobs.h), the other are decompositions (decomposition_jobs.h).
#ifndef ISTHMUS_LAUNCH_SWEEP_JOBS_H_
#define ISTHMUS_LAUNCH_SWEEP_JOBS_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "launch/sweep/survey.h"

namespace isthmus::sweep {

struct Job {
  std::string name;                    // as in RunResults
  std::string folder;                  // of its record, its output and its files
  std::string claim;                   // a folder; who locks it has the job
  std::vector<std::string> arguments;  // of the program
  // Returns a digest of all that decides its result. Errors: those of its configuration.
  std::function<absl::StatusOr<std::string>()> settings;
};

class Jobs {
 public:
  virtual ~Jobs() = default;
  // Returns those that lack a result and can start now, in the order in which they should. None are left if there are
  // none.
  virtual std::vector<Job> Needed(const RunResults& results) const = 0;
  // Returns how many lack a result at least, with those that can't start yet.
  virtual int64_t Left(const RunResults& results) const = 0;
  // Says what to do with a record that other settings gave: OK if the job is done again, else the error that ends the
  // worker.
  virtual absl::Status OnOtherSettings(const Job& job) const = 0;
  // Returns the result of a job that ended with `exit_status`.
  virtual RunResult ResultOf(const Job& job, int exit_status) const = 0;
  // Returns what to say of a job that finished: "loss 3.1234".
  virtual std::string Describe(const RunResult& result) const = 0;
  // Returns "runs".
  virtual std::string Name() const = 0;
  // Returns what has become of jobs when a signal ends the worker, and what to do.
  virtual std::string Stopped() const = 0;
};

}  // namespace isthmus::sweep

#endif  // ISTHMUS_LAUNCH_SWEEP_JOBS_H_
