// Finds processes that are left over from earlier starts of a run.
#ifndef ISTHMUS_LAUNCH_WATCH_LEFTOVERS_H_
#define ISTHMUS_LAUNCH_WATCH_LEFTOVERS_H_

#include <absl/status/statusor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "launch/watch/heartbeat.h"
#include "parallel/communicator.h"

namespace isthmus {

// Returns a text like "rank 1 of an earlier start (process 4242 on node7, since 2026-11-29T01:00:00+00:00)".
std::string DescribeLeftover(const Heartbeat& heartbeat);

// Returns when a process of this machine began, in clock ticks since the machine started; 0 if there is no such
// process. It tells apart processes that had the same number one after the other.
int64_t ProcessBirth(int64_t process);

// These are the last heartbeats of ranks of earlier starts.
struct Leftovers {
  std::vector<Heartbeat> alive;      // their processes live, on machines of this start
  std::vector<Heartbeat> elsewhere;  // on other machines: nobody knows whether they live
};

// Finds them by the heartbeats in the folder. It must be called at a start, before any of its ranks has left a
// heartbeat. Rank 0 gets the result, others nothing. Rank 0 removes heartbeats that no rank of this start will
// overwrite. Collective.
absl::StatusOr<Leftovers> FindLeftovers(const std::string& folder, Communicator& world);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_WATCH_LEFTOVERS_H_
