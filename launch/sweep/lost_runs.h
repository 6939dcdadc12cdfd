// A run is lost when a rank of it failed, hung or was killed: the same start may well go on, perhaps on another node. Its
// losses are counted in the folder of its claim, which only the one that has the claim may write to.
#ifndef ISTHMUS_LAUNCH_SWEEP_LOST_RUNS_H_
#define ISTHMUS_LAUNCH_SWEEP_LOST_RUNS_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <string>

namespace isthmus::sweep {

// Returns whether a run that ended with this status goes on when it is started again, as the scripts of launch/ judge
// that of `isthmus train`. It does not if it is done, nor if it would only fail again: bad input, diverged.
bool IsLost(int exit_status);

// Returns whether it ended because somebody asked it to: it has saved, or had not yet begun to listen.
bool WasAsked(int exit_status);

// Counts one more loss. Returns how many there are. Errors: by errno.
absl::StatusOr<int64_t> CountLoss(const std::string& claim);
// Forgets them, because the run has ended otherwise or is given up. Errors: by errno.
absl::Status ForgetLosses(const std::string& claim);

}  // namespace isthmus::sweep

#endif  // ISTHMUS_LAUNCH_SWEEP_LOST_RUNS_H_
