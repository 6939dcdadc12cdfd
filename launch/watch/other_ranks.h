// Finds, by the heartbeats in the run folder, ranks that have stopped and processes of earlier starts that still write.
#ifndef ISTHMUS_LAUNCH_WATCH_OTHER_RANKS_H_
#define ISTHMUS_LAUNCH_WATCH_OTHER_RANKS_H_

#include <absl/time/time.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "launch/watch/heartbeat.h"
#include "launch/watch/heartbeat_ages.h"
#include "launch/watch/start_mark.h"
#include "runtime/log.h"

namespace isthmus {

// One thread uses it, but for stale().
class OtherRanks {
 public:
  // `self` looks at the others. From the age `stale_age` on a heartbeat is stale.
  OtherRanks(RankOfStart self, absl::Duration stale_age, std::shared_ptr<Log> log);

  // Goes on with the next ranks, and round again after the last. Warns in the log. `now` is by a clock of the caller's.
  void Look(absl::Duration now);

  // Returns how often a rank's heartbeat was found stale. Any thread may ask.
  int64_t stale() const { return stale_; }

 private:
  // Handles a heartbeat that stands in place of one of this start. An earlier start left it, or still renews it.
  void LookAtLeftover(const Heartbeat& beat);

  const RankOfStart self_;
  const std::shared_ptr<Log> log_;
  int next_ = 0;  // whose heartbeat is read next
  HeartbeatAges ages_;
  std::map<int, Heartbeat> leftovers_;  // by rank, as last seen
  std::set<std::string> told_;          // descriptions of leftovers that were logged
  std::atomic<int64_t> stale_ = 0;
};

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_WATCH_OTHER_RANKS_H_
