// Checks that all ranks were started alike.
#ifndef ISTHMUS_LAUNCH_WATCH_SAME_START_H_
#define ISTHMUS_LAUNCH_WATCH_SAME_START_H_

#include <absl/status/status.h>
#include <absl/strings/string_view.h>
#include <absl/types/span.h>

#include <string>

#include "parallel/communicator.h"

namespace isthmus {

// Comes before anything else. Checks that every rank runs the same build of the program with the same arguments.
// Collective; the same result on all ranks. Errors: FailedPrecondition, naming the ranks that differ from most, what
// they have and what the others have.
absl::Status CheckSameProgram(Communicator& world, absl::Span<const std::string> arguments);

// Checks that a file is the same on all ranks that can read it: ranks on another node may see another one under its
// name. Collective, as above.
absl::Status CheckSameFile(Communicator& world, const std::string& path);

// Is the part of both that does not communicate. `found` is by rank; an empty text is unknown, and no difference.
// `what` is for example "build". Returns OK if all agree, else a message such as "rank 2 has another build: b; the
// others: a; `remedy`".
absl::Status CheckAlike(absl::Span<const std::string> found, absl::string_view what, absl::string_view remedy);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_WATCH_SAME_START_H_
