#include "model/train/spike_detector.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace isthmus {
namespace {

// For an even number of values this is the upper one of the two in the middle.
double MedianOf(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

SpikeDetector::SpikeDetector(size_t window, absl::Span<const double> values) : window_(window) {
  if (values.size() > window) values.remove_prefix(values.size() - window);
  values_.reserve(window);
  values_.assign(values.begin(), values.end());
}

double SpikeDetector::Score(double value) const {
  // This comes first: every comparison with NaN is false.
  if (!std::isfinite(value)) return std::numeric_limits<double>::infinity();
  if (!full()) return 0;
  std::vector<double> sorted = values_;
  const double median = MedianOf(sorted);
  for (double& one : sorted) one = std::abs(one - median);
  constexpr double kToDeviation = 1.4826, kLeastShare = 0.01;
  const double deviation = std::max(kToDeviation * MedianOf(sorted), kLeastShare * std::abs(median));
  if (deviation == 0) return value > median ? std::numeric_limits<double>::infinity() : 0;
  return (value - median) / deviation;
}

void SpikeDetector::Add(double value) {
  if (!std::isfinite(value)) return;
  if (!full()) {
    values_.push_back(value);
    return;
  }
  values_[next_] = value;
  next_ = (next_ + 1) % window_;
}

std::vector<double> SpikeDetector::values() const {
  std::vector<double> ordered = values_;
  std::rotate(ordered.begin(), ordered.begin() + static_cast<std::ptrdiff_t>(next_), ordered.end());
  return ordered;
}

}  // namespace isthmus
