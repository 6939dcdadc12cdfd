// Clocks for durations.
#ifndef ISTHMUS_RUNTIME_MONOTONIC_H_
#define ISTHMUS_RUNTIME_MONOTONIC_H_

#include <absl/time/clock.h>
#include <absl/time/time.h>

#include <chrono>
#include <cstdint>

namespace isthmus {

// Time since some moment in the past. Unlike absl::Now() it does not jump when the machine's clock is set.
inline absl::Duration MonotonicNow() { return absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch()); }

// The same time in seconds.
inline double MonotonicSeconds() { return absl::ToDoubleSeconds(MonotonicNow()); }

// Nanoseconds since 1970, for people. The machine's clock is read at the first call; from then on the monotonic clock
// counts, so that differences are durations, too.
inline int64_t SteadyUnixNanos() {
  static const absl::Duration offset = absl::Now() - absl::UnixEpoch() - MonotonicNow();
  return absl::ToInt64Nanoseconds(MonotonicNow() + offset);
}

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_MONOTONIC_H_
