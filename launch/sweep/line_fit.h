// A straight line through a few points, and how well it predicts points that it has not seen.
#ifndef ISTHMUS_LAUNCH_SWEEP_LINE_FIT_H_
#define ISTHMUS_LAUNCH_SWEEP_LINE_FIT_H_

#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <cstdint>

#include "launch/sweep/statistics.h"

namespace isthmus::sweep {

struct LineFit {
  int64_t count = 0;
  double slope = 0, intercept = 0;  // of least squares
  Interval slope_interval;          // Student's, with count - 2 degrees
  double probability = 1;           // of a slope as far from 0 by chance alone
  double r_squared = 0;             // 1 - Σ e² / Σ (y - mean)², e being the distances from the line
  // The same where each point is predicted by the line through all others, against the mean of all others: 1 for points
  // on a line, 0 where the line predicts no better than the mean, below 0 where it predicts worse.
  double left_out_r_squared = 0;
};

// Fits y = intercept + slope · x. Errors: InvalidArgument for fewer than four points, for other numbers of x than of y,
// for a value that is not finite, for a confidence outside (0, 1), and if all x or all y are the same.
absl::StatusOr<LineFit> FitLine(absl::Span<const double> x, absl::Span<const double> y, double confidence = 0.95);

}  // namespace isthmus::sweep

#endif  // ISTHMUS_LAUNCH_SWEEP_LINE_FIT_H_
