// Tells whether a step's loss or gradient norm stands out of those of the steps before it.
//
//   score(x) = (x - median) / max(1.4826 · median |x_i - median|, 0.01 · |median|)
//
// over the latest `window` steps. Median and median absolute deviation (Hampel 1974, "The influence curve and its role
// in robust estimation"; 1.4826 makes the latter a standard deviation for normal values) are not moved by the outliers
// that they are to find, as mean and variance are. The second term keeps values that hardly vary, or not at all, from
// making every next one an outlier. Only what lies above counts: losses fall.
#ifndef ISTHMUS_MODEL_TRAIN_SPIKE_DETECTOR_H_
#define ISTHMUS_MODEL_TRAIN_SPIKE_DETECTOR_H_

#include <absl/types/span.h>

#include <cstddef>
#include <vector>

namespace isthmus {

// Of one series of figures. All it knows are the values in its window: a copy of those goes on bit for bit.
class SpikeDetector {
 public:
  // window >= 1. `values`: oldest first; of more than `window` the latest count.
  explicit SpikeDetector(size_t window, absl::Span<const double> values = {});

  // Of a value that has not been added: 0 as long as the window is not full, infinite for NaN and infinities, always.
  double Score(double value) const;
  // Takes up the value of a step. One that is not finite is left out.
  void Add(double value);

  bool full() const { return values_.size() == window_; }
  // Oldest first.
  std::vector<double> values() const;

 private:
  size_t window_;
  size_t next_ = 0;             // where the next value goes once the window is full: the oldest one's place
  std::vector<double> values_;  // a ring
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_TRAIN_SPIKE_DETECTOR_H_
