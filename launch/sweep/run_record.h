// A sweep keeps this of a run that has ended: sweep.json in the run's folder.
#ifndef ISTHMUS_LAUNCH_SWEEP_RUN_RECORD_H_
#define ISTHMUS_LAUNCH_SWEEP_RUN_RECORD_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <optional>
#include <string>

#include "launch/sweep/survey.h"

namespace isthmus::sweep {

struct RunRecord {
  RunResult result;
  double seconds = 0;    // from start to end, by the clock of the one that ran it
  std::string settings;  // of SettingsDigest: a record of other settings is another run's
};

// Returns a digest of all that decides a run: its resolved configuration without the folder. Errors: of LoadConfig.
absl::StatusOr<std::string> SettingsDigest(const std::string& base, const PlannedRun& run);

// Returns the record in `folder`; nothing if the run has not ended. Errors: DataLoss for a file that is no record.
absl::StatusOr<std::optional<RunRecord>> ReadRunRecord(const std::string& folder);
absl::Status WriteRunRecord(const std::string& folder, const RunRecord& record);
// Removes the record, if there is one. Errors: by errno.
absl::Status RemoveRunRecord(const std::string& folder);
// Makes a folder for a run, and those above it. Errors: by errno.
absl::Status MakeRunFolder(const std::string& path);

// Returns the result of a run that ended with `exit_status` (runtime/exit_status.h; 128 + signal). A finished run's loss
// is its last validation loss. `log` is what it printed, whose last lines are the reason of a failure.
RunResult ResultOfRun(const std::string& folder, int exit_status, const std::string& log);
// Returns the result of a program that failed so, with the same reason.
RunResult FailureOf(int exit_status, const std::string& log);

}  // namespace isthmus::sweep

#endif  // ISTHMUS_LAUNCH_SWEEP_RUN_RECORD_H_
