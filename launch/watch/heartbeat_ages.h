// Finds the ranks whose heartbeats have stopped.
#ifndef ISTHMUS_LAUNCH_WATCH_HEARTBEAT_AGES_H_
#define ISTHMUS_LAUNCH_WATCH_HEARTBEAT_AGES_H_

#include <absl/time/time.h>

#include <cstdint>
#include <vector>

namespace isthmus {

// Ages are counted from when a reader sees a beat that it has not seen before. It uses its own clock: those of other
// machines need not agree with it.
class HeartbeatAges {
 public:
  // From the age `limit` on a heartbeat is stale.
  HeartbeatAges(int ranks, absl::Duration limit) : limit_(limit), ranks_(static_cast<size_t>(ranks)) {}

  enum class News { kNone, kStale, kBack };
  // Observes the rank's beat, read `now`, which is the reader's time. Each change is told once.
  News Observe(int rank, int64_t beat, absl::Duration now) {
    Rank& seen = ranks_[static_cast<size_t>(rank)];
    if (!seen.known || beat != seen.beat) {
      const bool back = seen.stale;
      seen = {.known = true, .beat = beat, .since = now};
      return back ? News::kBack : News::kNone;
    }
    if (seen.stale || now - seen.since < limit_) return News::kNone;
    seen.stale = true;
    return News::kStale;
  }
  absl::Duration Age(int rank, absl::Duration now) const { return now - ranks_[static_cast<size_t>(rank)].since; }

 private:
  struct Rank {
    bool known = false, stale = false;
    int64_t beat = 0;
    absl::Duration since;
  };
  absl::Duration limit_;
  std::vector<Rank> ranks_;
};

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_WATCH_HEARTBEAT_AGES_H_
