// A heartbeat is the sign of life that each rank leaves in the run folder: a small file that a thread renews every
// second. It says where training is and which collectives the rank has entered. If a process has stopped, its file is
// not renewed. So other ranks can tell it, without a collective, from one whose training thread is stuck.
//
// It is a file because the run folder is shared by all ranks anyway, and memory is not. It is one page of constant size
// that is written in place: a full disk does not silence a rank (launch/watch/checked_page.h).
//
// Times are durations by the rank's own clock, because the clocks of machines need not agree.
#ifndef ISTHMUS_LAUNCH_WATCH_HEARTBEAT_H_
#define ISTHMUS_LAUNCH_WATCH_HEARTBEAT_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "parallel/collective_ring.h"

namespace isthmus {

struct Heartbeat {
  // An operation that the training thread waits for.
  struct Wait {
    std::string group;
    int root = 0;          // of the group
    int64_t sequence = 0;  // of a collective
    int peer = -1;         // of a message instead: the other's rank
    std::string operation;
    int64_t bytes = 0;
    double waited = 0;  // seconds since it was entered
    int64_t step = 0;   // the step that waits for it
    std::string phase;
  };
  std::string nonce;  // of the rank's start (launch/watch/start_mark.h)
  std::string since;  // when that start began
  int rank = 0;
  std::string host;
  int64_t process = 0;  // its number on the host
  int64_t birth = 0;    // ProcessBirth (launch/watch/leftovers.h)
  int64_t beat = 0;     // how often the file has been written
  int64_t step = 0;
  std::string phase;
  std::vector<CollectiveGroup> groups;
  std::optional<Wait> waiting;
};

// Returns the part of a heartbeat that the ring knows. The caller adds who the rank is, and `beat`.
Heartbeat HeartbeatOf(const CollectiveRing& ring);

// Returns folder/log/rank-0001.heartbeat.
std::string HeartbeatPath(const std::string& folder, int rank);

// Errors: by errno.
absl::Status WriteHeartbeat(const std::string& path, const Heartbeat& heartbeat);
// Errors: by errno; DataLoss for a text that is not a whole heartbeat.
absl::StatusOr<Heartbeat> ReadHeartbeat(const std::string& path);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_WATCH_HEARTBEAT_H_
