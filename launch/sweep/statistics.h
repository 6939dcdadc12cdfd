// Statistics of few runs: means, paired differences and best learning rates, with what is not known of them.
//
// Arms of a sweep share seeds, and with them the order of the data and the first weights of the backbone. The difference
// of two arms is therefore taken seed by seed: what all arms share falls out of it.
#ifndef ISTHMUS_LAUNCH_SWEEP_STATISTICS_H_
#define ISTHMUS_LAUNCH_SWEEP_STATISTICS_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <cstdint>

namespace isthmus::sweep {

struct Interval {
  double low = 0, high = 0;

  bool Excludes(double value) const { return value < low || value > high; }
};

// Returns the quantile of Student's t distribution. `probability` is in (0, 1), `degrees` above 0.
double StudentQuantile(double probability, double degrees);
// Returns the probability that |t| is at least as large, by chance alone.
double StudentTwoSided(double t, double degrees);

// The mean of some values, and where the mean of infinitely many lies.
struct Estimate {
  int64_t count = 0;
  double mean = 0;
  double deviation = 0;  // of one value: √(Σ (x - mean)² / (count - 1))
  // mean ± t deviation / √count, if values are spread as a normal distribution.
  Interval student;
  // The middle of the means of resamples, which are `count` values drawn with replacement (Efron 1979, the percentile
  // interval). It assumes no distribution, and is too narrow for few values: by about √((count - 1) / count), and
  // because it has no tails beyond the extreme values. Up to 12 values all resamples count, above that 100,000 of them.
  Interval bootstrap;
  // The probability of a mean as far from 0 by chance alone: Student's test. 1 if all values are 0.
  double probability = 1;
};

// Errors: InvalidArgument for fewer than two values, for one that is not finite, and for a confidence outside (0, 1).
absl::StatusOr<Estimate> EstimateMean(absl::Span<const double> values, double confidence = 0.95);
// The same of first[i] - second[i], by seed. Errors: also InvalidArgument for other numbers of values.
absl::StatusOr<Estimate> EstimateDifference(absl::Span<const double> first, absl::Span<const double> second,
                                            double confidence = 0.95);

struct RatedLoss {
  double rate = 0, loss = 0;
};

// The best of several learning rates.
struct BestRate {
  double rate = 0, loss = 0;  // of the grid
  // Whether a lower and a higher rate of the grid are worse. An arm whose best rate is an end of its grid is not tuned.
  bool inside = false;
  // The lowest point of the parabola in log rate through the best rate and its two neighbours; the best rate itself if it
  // is not inside.
  double parabola_rate = 0, parabola_loss = 0;
};

// Takes rates in any order. A loss that is not finite is a rate at which the run diverged: it counts as worse than any
// other, and as no point of a parabola. Errors: InvalidArgument for no rate, for one that is not positive, for one that
// comes twice, and if all losses are not finite.
absl::StatusOr<BestRate> FindBestRate(absl::Span<const RatedLoss> grid);

}  // namespace isthmus::sweep

#endif  // ISTHMUS_LAUNCH_SWEEP_STATISTICS_H_
