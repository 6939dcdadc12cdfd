#include "launch/run/agreed_stop.h"

#include <absl/strings/str_cat.h>

#include "runtime/status.h"

namespace isthmus {

absl::StatusOr<int> AgreedStop(const StopSignals& signals, Communicator& world) {
  double signal = signals.received();
  ISTHMUS_RETURN_IF_ERROR(world.AllReduceNumbers(absl::MakeSpan(&signal, 1), Reduction::kMax));
  return static_cast<int>(signal);
}

absl::Status EndIfStopped(const StopSignals& signals, Communicator& world, absl::string_view after) {
  ISTHMUS_ASSIGN_OR_RETURN(const int signal, AgreedStop(signals, world));
  if (signal == 0) return absl::OkStatus();
  return absl::CancelledError(
      absl::StrCat("stopped by ", SignalName(signal), " after ", after, "; nothing was trained or lost"));
}

}  // namespace isthmus
