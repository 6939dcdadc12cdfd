// Computes how many times faster one run learns than another: at the loss where the other ends.
#ifndef ISTHMUS_LAUNCH_REPORT_SPEED_UP_H_
#define ISTHMUS_LAUNCH_REPORT_SPEED_UP_H_

#include <absl/types/span.h>

#include <string>

#include "launch/report/series.h"

namespace isthmus::report {

enum class Against { kTokens, kSeconds };

// By this factor a run takes less than the reference to the loss at which the reference ends. Let x be tokens or
// seconds. The factor is x at the reference's last point over x where the run's curve first comes down to the loss of
// that point. The curve is straight between its points.
//
// Curves of training losses are smoothed first (series.h). Both x are then means over a window of records, the last 5 %
// of the reference among them. Validation losses, of the same samples each time, are taken as they are.
struct SpeedUp {
  enum class Kind {
    kFactor,
    kAtLeast,     // the run is there at its first point already: where before that is not recorded
    kNotReached,  // the run has not come down to that loss
    kUnknown,     // fewer than two points, or no time recorded
  };
  Kind kind = Kind::kUnknown;
  double factor = 0;  // of kFactor and kAtLeast
  // If the curve comes down to that loss more than once, this is by its last time, below `factor`; else it is equal to
  // it.
  double cautious_factor = 0;
  bool ends_above = false;  // it reached the loss and rose again
};

SpeedUp ComputeSpeedUp(absl::Span<const SeriesPoint> reference, absl::Span<const SeriesPoint> run, Against against);

// Returns "1.87×", "1.79–1.87×", "≥ 12×", "not reached" or "–".
std::string SpeedUpText(const SpeedUp& speed_up);

}  // namespace isthmus::report

#endif  // ISTHMUS_LAUNCH_REPORT_SPEED_UP_H_
