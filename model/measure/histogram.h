// A histogram counts values between fixed bounds, so that histograms of different steps, meshes and runs can be added
// up and compared.
#ifndef ISTHMUS_MODEL_MEASURE_HISTOGRAM_H_
#define ISTHMUS_MODEL_MEASURE_HISTOGRAM_H_

#include <absl/types/span.h>

#include <cstdint>
#include <vector>

namespace isthmus {

// Value x is counted in the first place i with x <= bounds[i], in the last place when there is none.
struct Histogram {
  std::vector<double> bounds;   // ascending upper bounds, without infinity
  std::vector<int64_t> counts;  // one more than bounds
  double sum = 0;               // of the values

  explicit Histogram(absl::Span<const double> upper_bounds = {})
      : bounds(upper_bounds.begin(), upper_bounds.end()), counts(bounds.size() + 1, 0) {}
  void Add(double value);
};

// These bounds are for ‖G_∥,n‖ / ‖G_n‖ of a token: 0.05, 0.1, …, 0.95.
absl::Span<const double> RetainedRatioBounds();
// These bounds are for ‖p - y‖ of a token, the norm of its own loss's logit gradient, at most √2. They are finer
// towards zero, where the tokens lie that have been learnt.
absl::Span<const double> TokenGradientBounds();

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_HISTOGRAM_H_
