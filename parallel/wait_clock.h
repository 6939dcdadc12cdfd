// Measures how long a wait has lasted.
#ifndef ISTHMUS_PARALLEL_WAIT_CLOCK_H_
#define ISTHMUS_PARALLEL_WAIT_CLOCK_H_

#include <absl/time/time.h>

namespace isthmus {

// The time in which this process was itself stopped does not count. If a scheduler suspends a job and lets it go on, no
// rank is late. Whoever waits asks many times a second, so that a gap can mean nothing else. `now` is from
// runtime/monotonic.h.
class WaitClock {
 public:
  static constexpr absl::Duration kGap = absl::Seconds(2);

  explicit WaitClock(absl::Duration now) : latest_(now) {}

  absl::Duration Elapsed(absl::Duration now) {
    const absl::Duration since = now - latest_;
    latest_ = now;
    if (since < kGap) elapsed_ += since;
    return elapsed_;
  }

 private:
  absl::Duration latest_;
  absl::Duration elapsed_;
};

}  // namespace isthmus

#endif  // ISTHMUS_PARALLEL_WAIT_CLOCK_H_
