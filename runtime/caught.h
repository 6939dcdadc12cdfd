// The boundary at which exceptions end. The project's own code returns a status; the standard library and others throw,
// for lack of memory or threads for example, and what nobody catches would end the program without a word.
#ifndef ISTHMUS_RUNTIME_CAUGHT_H_
#define ISTHMUS_RUNTIME_CAUGHT_H_

#include <absl/functional/function_ref.h>
#include <absl/status/status.h>

namespace isthmus {

// What `call` returns; else what it threw, by name:
//   ResourceExhausted   no memory, or no thread, is to be had
//   FailedPrecondition  another error of the system, of a file for example
//   Internal            anything else, which is a fault of the program
absl::Status Caught(absl::FunctionRef<absl::Status()> call);

// The same on one of `ranks` ranks. An exception leaves this rank alone, and others may wait for it: of several ranks
// it is always Internal, which ends the job on all (runtime/exit_status.h).
absl::Status CaughtOnRank(int ranks, absl::FunctionRef<absl::Status()> call);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_CAUGHT_H_
