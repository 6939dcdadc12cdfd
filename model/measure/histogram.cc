#include "model/measure/histogram.h"

#include <algorithm>

namespace isthmus {
namespace {

constexpr double kRetainedRatio[] = {0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5,
                                     0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95};
constexpr double kTokenGradient[] = {0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5,
                                     0.6,   0.7,   0.8,  0.9,  1.0, 1.1, 1.2, 1.3};

}  // namespace

void Histogram::Add(double value) {
  ++counts[static_cast<size_t>(std::lower_bound(bounds.begin(), bounds.end(), value) - bounds.begin())];
  sum += value;
}

absl::Span<const double> RetainedRatioBounds() { return kRetainedRatio; }
absl::Span<const double> TokenGradientBounds() { return kTokenGradient; }

}  // namespace isthmus
