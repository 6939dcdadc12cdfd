#include "launch/sweep/line_fit.h"

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace isthmus::sweep {
namespace {

constexpr size_t kLeastPoints = 4;  // one is left out, and two more than a line needs give its error a degree

double MeanValue(absl::Span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

bool AllAlike(absl::Span<const double> values) {
  return std::all_of(values.begin(), values.end(), [&](double value) { return value == values[0]; });
}

absl::Status CheckPoints(absl::Span<const double> x, absl::Span<const double> y, double confidence) {
  const auto wrong = [](const auto&... parts) {
    return absl::InvalidArgumentError(absl::StrCat("a line: ", parts...));
  };
  if (x.size() != y.size()) return wrong("found ", x.size(), " x and ", y.size(), " y; accepts as many of each");
  if (x.size() < kLeastPoints) return wrong("found ", x.size(), " points; accepts ", kLeastPoints, " and more");
  const auto finite = [](double value) { return std::isfinite(value); };
  if (!std::all_of(x.begin(), x.end(), finite) || !std::all_of(y.begin(), y.end(), finite)) {
    return wrong("found a value that is not finite");
  }
  if (!(confidence > 0 && confidence < 1)) return wrong("found a confidence of ", confidence, "; accepts 0 to 1");
  if (AllAlike(x) || AllAlike(y)) return wrong("all points have the same ", AllAlike(x) ? "x" : "y");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<LineFit> FitLine(absl::Span<const double> x, absl::Span<const double> y, double confidence) {
  if (const absl::Status status = CheckPoints(x, y, confidence); !status.ok()) return status;
  const auto count = static_cast<double>(x.size());
  const double mean_x = MeanValue(x), mean_y = MeanValue(y);
  double xx = 0, xy = 0, yy = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    xx += (x[i] - mean_x) * (x[i] - mean_x);
    xy += (x[i] - mean_x) * (y[i] - mean_y);
    yy += (y[i] - mean_y) * (y[i] - mean_y);
  }
  LineFit fit{.count = static_cast<int64_t>(x.size()), .slope = xy / xx};
  fit.intercept = mean_y - fit.slope * mean_x;
  double squares = 0, left_out = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double distance = y[i] - fit.intercept - fit.slope * x[i];
    // A point pulls the line towards itself by its leverage. Without the point it would lie so much farther away.
    const double leverage = 1 / count + (x[i] - mean_x) * (x[i] - mean_x) / xx;
    squares += distance * distance;
    left_out += std::pow(distance / (1 - leverage), 2);
  }
  const double degrees = count - 2, error = std::sqrt(squares / degrees / xx);
  const double half = StudentQuantile((1 + confidence) / 2, degrees) * error;
  fit.slope_interval = {fit.slope - half, fit.slope + half};
  if (fit.slope != 0) fit.probability = error > 0 ? StudentTwoSided(fit.slope / error, degrees) : 0;
  fit.r_squared = 1 - squares / yy;
  const double without = count / (count - 1);  // the mean moves away by it when a point is left out
  fit.left_out_r_squared = 1 - left_out / (yy * without * without);
  return fit;
}

}  // namespace isthmus::sweep
