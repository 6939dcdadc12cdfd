#include "launch/sweep/statistics.h"

#include <absl/strings/str_cat.h>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <unsupported/Eigen/SpecialFunctions>
#include <utility>
#include <vector>

#include "runtime/philox.h"
#include "runtime/status.h"

namespace isthmus::sweep {
namespace {

constexpr size_t kMostEnumerated = 12;
constexpr int64_t kResamples = 100000;

// Returns I_x(a, b), the regularised incomplete beta function.
double RegularisedBeta(double a, double b, double x) {
  const Eigen::Array<double, 1, 1> as(a), bs(b), xs(x);
  return Eigen::betainc(as, bs, xs)(0);
}

// Means of resamples, each with the number of resamples that have it.
struct WeightedMean {
  double mean = 0, weight = 0;
};

// Returns all ways to draw as many values as there are, without their order. Weights are multinomial coefficients, and
// add up to n^n.
class AllResamples {
 public:
  explicit AllResamples(absl::Span<const double> values) : values_(values) {
    Draw(0, values.size(), 0, std::tgamma(static_cast<double>(values.size()) + 1));
  }
  std::vector<WeightedMean> Take() { return std::move(means_); }

 private:
  void Draw(size_t value, size_t left, double sum, double weight) {
    const auto n = static_cast<double>(values_.size());
    if (value + 1 == values_.size()) {
      const auto times = static_cast<double>(left);
      means_.push_back({(sum + times * values_[value]) / n, std::round(weight / std::tgamma(times + 1))});
      return;
    }
    for (size_t times = 0; times <= left; ++times) {
      const auto count = static_cast<double>(times);
      Draw(value + 1, left - times, sum + count * values_[value], weight / std::tgamma(count + 1));
    }
  }

  absl::Span<const double> values_;
  std::vector<WeightedMean> means_;
};

std::vector<WeightedMean> SomeResamples(absl::Span<const double> values) {
  std::vector<WeightedMean> means;
  const uint64_t count = values.size();
  for (int64_t resample = 0; resample < kResamples; ++resample) {
    double sum = 0;
    for (uint64_t i = 0; i < count; ++i) {
      const uint64_t word = Philox::Words(0, RandomPurpose::kResample, static_cast<uint32_t>(resample), i)[0];
      sum += values[(word * count) >> 32];
    }
    means.push_back({sum / static_cast<double>(count), 1});
  }
  return means;
}

// Returns the quantile of sorted means: at place probability · (resamples - 1), and straight between two places.
double WeightedQuantile(absl::Span<const WeightedMean> sorted, double probability) {
  const double resamples = std::accumulate(sorted.begin(), sorted.end(), 0.0,
                                           [](double sum, const WeightedMean& mean) { return sum + mean.weight; });
  const double place = probability * (resamples - 1), lower = std::floor(place);
  const auto at = [&](double wanted) {
    double passed = 0;
    for (const WeightedMean& mean : sorted) {
      passed += mean.weight;
      if (wanted < passed) return mean.mean;
    }
    return sorted.back().mean;
  };
  return std::lerp(at(lower), at(lower + 1), place - lower);
}

Interval Bootstrap(absl::Span<const double> values, double confidence) {
  std::vector<WeightedMean> means =
      values.size() <= kMostEnumerated ? AllResamples(values).Take() : SomeResamples(values);
  std::sort(means.begin(), means.end(), [](const auto& a, const auto& b) { return a.mean < b.mean; });
  const double tail = (1 - confidence) / 2;
  return {WeightedQuantile(means, tail), WeightedQuantile(means, 1 - tail)};
}

}  // namespace

double StudentTwoSided(double t, double degrees) {
  return RegularisedBeta(degrees / 2, 0.5, degrees / (degrees + t * t));
}

double StudentQuantile(double probability, double degrees) {
  if (probability == 0.5) return 0;
  const double both = 2 * std::min(probability, 1 - probability);
  double low = 0, high = 1;
  while (StudentTwoSided(high, degrees) > both) high *= 2;
  // Every half of the interval that is left gives one more bit.
  for (int i = 0; i < 200 && high - low > std::numeric_limits<double>::epsilon() * high; ++i) {
    const double middle = low + (high - low) / 2;
    (StudentTwoSided(middle, degrees) > both ? low : high) = middle;
  }
  return probability < 0.5 ? -high : high;
}

absl::StatusOr<Estimate> EstimateMean(absl::Span<const double> values, double confidence) {
  if (values.size() < 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("an interval of ", values.size(), " values: accepts two and more; add seeds"));
  }
  if (!(confidence > 0 && confidence < 1)) {
    return absl::InvalidArgumentError(absl::StrCat("a confidence of ", confidence, ": accepts values between 0 and 1"));
  }
  for (const double value : values) {
    if (!std::isfinite(value)) {
      return absl::InvalidArgumentError(absl::StrCat("an interval of values with ", value, ": accepts finite ones"));
    }
  }
  const auto count = static_cast<double>(values.size());
  Estimate estimate{.count = static_cast<int64_t>(values.size())};
  estimate.mean = std::accumulate(values.begin(), values.end(), 0.0) / count;
  double squares = 0;
  for (const double value : values) squares += (value - estimate.mean) * (value - estimate.mean);
  estimate.deviation = std::sqrt(squares / (count - 1));
  const double error = estimate.deviation / std::sqrt(count);
  const double half = StudentQuantile((1 + confidence) / 2, count - 1) * error;
  estimate.student = {estimate.mean - half, estimate.mean + half};
  estimate.bootstrap = Bootstrap(values, confidence);
  if (estimate.mean != 0) {
    estimate.probability = error > 0 ? StudentTwoSided(estimate.mean / error, count - 1) : 0;
  }
  return estimate;
}

absl::StatusOr<Estimate> EstimateDifference(absl::Span<const double> first, absl::Span<const double> second,
                                            double confidence) {
  if (first.size() != second.size()) {
    return absl::InvalidArgumentError(absl::StrCat("a paired difference of ", first.size(), " and ", second.size(),
                                                   " values: accepts as many of each, by seed"));
  }
  std::vector<double> differences(first.size());
  std::transform(first.begin(), first.end(), second.begin(), differences.begin(), std::minus<>());
  return EstimateMean(differences, confidence);
}

absl::StatusOr<BestRate> FindBestRate(absl::Span<const RatedLoss> grid) {
  std::vector<RatedLoss> points(grid.begin(), grid.end());
  std::sort(points.begin(), points.end(), [](const auto& a, const auto& b) { return a.rate < b.rate; });
  for (size_t i = 0; i < points.size(); ++i) {
    if (!(points[i].rate > 0) || !std::isfinite(points[i].rate)) {
      return absl::InvalidArgumentError(absl::StrCat("a learning rate of ", points[i].rate, ": accepts those above 0"));
    }
    if (i > 0 && points[i].rate == points[i - 1].rate) {
      return absl::InvalidArgumentError(absl::StrCat("the learning rate ", points[i].rate, " twice in one grid"));
    }
    if (!std::isfinite(points[i].loss)) points[i].loss = std::numeric_limits<double>::infinity();
  }
  const auto best =
      std::min_element(points.begin(), points.end(), [](const auto& a, const auto& b) { return a.loss < b.loss; });
  if (best == points.end() || !std::isfinite(best->loss)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the best of ", points.size(), " learning rates: accepts one and more with a finite loss"));
  }
  BestRate found{best->rate, best->loss, best != points.begin() && best + 1 != points.end(), best->rate, best->loss};
  if (!found.inside) return found;
  // Slopes between neighbours, and how they change: Newton's form of the parabola.
  const double x0 = std::log((best - 1)->rate), x1 = std::log(best->rate), x2 = std::log((best + 1)->rate);
  const double slope1 = (best->loss - (best - 1)->loss) / (x1 - x0),
               slope2 = ((best + 1)->loss - best->loss) / (x2 - x1);
  const double curvature = (slope2 - slope1) / (x2 - x0);
  if (!std::isfinite(curvature) || !(curvature > 0)) return found;
  const double lowest = (x0 + x1) / 2 - slope1 / (2 * curvature);
  found.parabola_rate = std::exp(lowest);
  found.parabola_loss = best->loss + (lowest - x1) * (slope1 + curvature * (lowest - x0));
  return found;
}

}  // namespace isthmus::sweep
