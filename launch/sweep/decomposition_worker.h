// Makes the decompositions of a sweep once its runs have ended, some at a time. As runs do, each has a lock: any number of
// workers that share the sweep's folder share the work.
#ifndef ISTHMUS_LAUNCH_SWEEP_DECOMPOSITION_WORKER_H_
#define ISTHMUS_LAUNCH_SWEEP_DECOMPOSITION_WORKER_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <map>
#include <memory>
#include <ostream>
#include <set>
#include <string>
#include <vector>

#include "launch/run/run_lock.h"
#include "launch/sweep/decompositions.h"
#include "launch/sweep/run_process.h"
#include "launch/sweep/survey.h"
#include "launch/sweep/worker.h"
#include "proto/sweep.pb.h"
#include "runtime/stop_signals.h"

namespace isthmus::sweep {

class DecompositionWorker {
 public:
  // All must outlive the worker. Lines for people go to `out`.
  DecompositionWorker(const proto::SweepConfig& config, const WorkerOptions& options, const StopSignals& signals,
                      std::ostream& out)
      : config_(config), options_(options), signals_(signals), out_(out) {}

  // Makes those that are not there, and waits for those that other workers make. A result of other settings, or of another
  // checkpoint in the same place, is made again. Errors: Cancelled after a signal, by which those that run here are given
  // up, to be made by a later start; by errno for the folder. A failed one is no error.
  absl::Status Work(absl::Span<const PlannedDecomposition> planned);
  // Takes over the records that are there. Returns those that have none.
  absl::StatusOr<std::vector<PlannedDecomposition>> Refresh(absl::Span<const PlannedDecomposition> planned);
  // Returns how those ended that Work or Refresh knows, by name. The loss is that of the decomposed tokens.
  const RunResults& results() const { return results_; }

 private:
  struct Running {
    PlannedDecomposition planned;
    std::unique_ptr<RunLock> claim;
    std::unique_ptr<RunProcess> process;
    double start = 0;  // seconds
  };

  const std::string& DigestOf(const PlannedDecomposition& planned);
  // Reads the record of one. Returns whether there is one of these settings.
  absl::StatusOr<bool> Read(const PlannedDecomposition& planned);
  // Starts those that nobody has, as many as may run.
  absl::Status StartSome(absl::Span<const PlannedDecomposition> lacking);
  absl::Status Start(const PlannedDecomposition& planned, std::unique_ptr<RunLock> claim);
  // Keeps the results of those that have ended.
  absl::Status EndSome();
  absl::Status Stop();
  absl::Status Keep(const Running& running, int exit_status);

  const proto::SweepConfig& config_;
  const WorkerOptions& options_;
  const StopSignals& signals_;
  std::ostream& out_;
  RunResults results_;
  std::map<std::string, std::string> digests_;  // by name
  std::set<std::string> retried_;
  std::vector<Running> running_;
};

}  // namespace isthmus::sweep

#endif  // ISTHMUS_LAUNCH_SWEEP_DECOMPOSITION_WORKER_H_
