// Processes that are left over from earlier starts of a run.
#ifndef ISTHMUS_LAUNCH_WATCH_LEFTOVERS_H_
#define ISTHMUS_LAUNCH_WATCH_LEFTOVERS_H_

#include <absl/status/statusor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "launch/watch/heartbeat.h"
#include "parallel/communicator.h"

namespace isthmus {

// "rank 1 of an earlier start (process 4242 on node7, since 2026-11-29T01:00:00+00:00)"
std::string DescribeLeftover(const Heartbeat& heartbeat);

// When a process of this machine began, in clock ticks since the machine did: tells processes that have the same number
// one after another apart. 0: there is none.
int64_t ProcessBirth(int64_t process);

// The last heartbeats of ranks of earlier starts.
struct Leftovers {
  std::vector<Heartbeat> alive;      // whose processes live, on machines of this start
  std::vector<Heartbeat> elsewhere;  // on machines that are not of this start: nobody knows
};

// At a start, before any of its ranks has left a heartbeat; by the heartbeats in the folder. On rank 0; nothing on
// others. Rank 0 takes heartbeats away that no rank of this start will write over. Collective.
absl::StatusOr<Leftovers> FindLeftovers(const std::string& folder, Communicator& world);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_WATCH_LEFTOVERS_H_
