// A signal to one rank is a wish to all of them: to save the state, and end with status 5.
#ifndef ISTHMUS_LAUNCH_RUN_AGREED_STOP_H_
#define ISTHMUS_LAUNCH_RUN_AGREED_STOP_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include "parallel/communicator.h"
#include "runtime/stop_signals.h"

namespace isthmus {

// Returns the signal that any rank has received, 0 for none: the same answer on all ranks. Collective.
absl::StatusOr<int> AgreedStop(const StopSignals& signals, Communicator& world);

// Is called between the phases before the first step, when there is nothing to save yet. `after` says what has been
// done, "the data were opened". Collective. Errors: Cancelled when any rank has received a signal.
absl::Status EndIfStopped(const StopSignals& signals, Communicator& world, absl::string_view after);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_RUN_AGREED_STOP_H_
