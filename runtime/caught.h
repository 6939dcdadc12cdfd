// The boundary at which exceptions end. The project's own code returns a status. The standard library and other
// libraries throw, for example if memory or threads run out. An uncaught exception would end the program without a
// word.
#ifndef ISTHMUS_RUNTIME_CAUGHT_H_
#define ISTHMUS_RUNTIME_CAUGHT_H_

#include <absl/functional/function_ref.h>
#include <absl/status/status.h>

namespace isthmus {

// Returns the status of `call`, or a status for the exception that it threw:
//   ResourceExhausted   there is no memory, or no thread, left
//   FailedPrecondition  another error of the system, of a file for example
//   Internal            anything else, which is a fault of the program
absl::Status Caught(absl::FunctionRef<absl::Status()> call);

// Does the same on one of `ranks` ranks. Other ranks may wait for the one that threw. With several ranks an exception
// therefore always becomes Internal, which ends the job on all (runtime/exit_status.h).
absl::Status CaughtOnRank(int ranks, absl::FunctionRef<absl::Status()> call);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_CAUGHT_H_
