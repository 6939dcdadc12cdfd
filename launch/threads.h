// Finds how many threads a rank computes with.
#ifndef ISTHMUS_LAUNCH_THREADS_H_
#define ISTHMUS_LAUNCH_THREADS_H_

#include <absl/status/status.h>

namespace isthmus {

// Returns OMP_NUM_THREADS if it is set. Else it returns the cores that this process may run on. They are shared with
// the node's other ranks unless the launcher bound each rank to cores of its own. The result is at least 1.
int ThreadsPerRank(int local_size);

// Computes with `threads` from now on. It first makes sure that so many can be started, because OpenMP's library ends
// the program with status 1 if one can't. Errors: ResourceExhausted.
absl::Status StartThreads(int threads);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_THREADS_H_
