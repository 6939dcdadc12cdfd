// Whether all ranks were started alike.
#ifndef ISTHMUS_LAUNCH_WATCH_SAME_START_H_
#define ISTHMUS_LAUNCH_WATCH_SAME_START_H_

#include <absl/status/status.h>
#include <absl/strings/string_view.h>
#include <absl/types/span.h>

#include <string>

#include "parallel/communicator.h"

namespace isthmus {

// Before anything else: that every rank runs the same build of the program with the same arguments. Collective; the
// same result on all ranks. Errors: FailedPrecondition, naming the ranks that differ from most, what they have and what
// the others have.
absl::Status CheckSameProgram(Communicator& world, absl::Span<const std::string> arguments);

// That a file, where a rank can read it, is the same on all: ranks on another node may see another one under its name.
// Collective, as above.
absl::Status CheckSameFile(Communicator& world, const std::string& path);

// The part of both that is no communication. `found`: by rank; empty: unknown, and no difference. `what`: "build". OK
// when all agree, else a message such as "rank 2 has another build: b; the others: a; `remedy`".
absl::Status CheckAlike(absl::Span<const std::string> found, absl::string_view what, absl::string_view remedy);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_WATCH_SAME_START_H_
