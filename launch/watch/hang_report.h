// Finds who is to blame when a collective outlasts its deadline, from the heartbeats of all ranks.
#ifndef ISTHMUS_LAUNCH_WATCH_HANG_REPORT_H_
#define ISTHMUS_LAUNCH_WATCH_HANG_REPORT_H_

#include <absl/strings/string_view.h>

#include <optional>
#include <string>
#include <vector>

#include "launch/watch/heartbeat.h"
#include "parallel/collective_ring.h"

namespace isthmus {

// This is what is known of a rank.
struct RankSighting {
  std::optional<Heartbeat> heartbeat;  // the latest; none: it can't be read
  bool silent = false;                 // it was not renewed while others' were
};

// Returns the ranks, ascending, that others wait for and that wait for nobody themselves, and those that are silent. If
// there is none, as when ranks wait for each other in different orders, it returns all that others wait for.
std::vector<int> LateRanks(const std::vector<RankSighting>& ranks);

// Writes the report for the log and for people. It has a line for each late rank (of many, the first few) with the
// collective that it has not entered. The line says who waits for it there, and where it was last seen. `failure` made
// the ranks look.
std::string HangReport(const std::vector<RankSighting>& ranks, absl::string_view failure);

// Writes the ring as lines of JSON, oldest first. Times are seconds since 1970; an end of null means that the operation
// has not ended. `nonce` is that of the start that the ring belongs to (launch/watch/start_mark.h).
std::string RingText(const CollectiveRing& ring, absl::string_view nonce);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_WATCH_HANG_REPORT_H_
