// Tells whether a step's loss or gradient norm stands out of those of the steps before it.
//
//   score(x) = (x - median) / max(1.4826 · median |x_i - median|, 0.01 · |median|)
//
// over the latest `window` steps. Outliers do not move median and median absolute deviation, as they move mean and
// variance (Hampel 1974, "The influence curve and its role in robust estimation"). 1.4826 makes the deviation a
// standard deviation for normal values. The second term keeps values that hardly vary, or not at all, from making every
// next one an outlier. Only values above the median count: losses fall.
#ifndef ISTHMUS_MODEL_TRAIN_SPIKE_DETECTOR_H_
#define ISTHMUS_MODEL_TRAIN_SPIKE_DETECTOR_H_

#include <absl/types/span.h>

#include <cstddef>
#include <vector>

namespace isthmus {

// A detector follows one series of figures. It only knows the values in its window: a detector made from a copy of
// those goes on bit for bit.
class SpikeDetector {
 public:
  // `window` must be >= 1. `values` come oldest first; if there are more than `window`, the latest count.
  explicit SpikeDetector(size_t window, absl::Span<const double> values = {});

  // Returns the score of a value that has not been added. It is 0 as long as the window is not full. For NaN and
  // infinities it is always infinite.
  double Score(double value) const;
  // Takes up the value of a step. One that is not finite is left out.
  void Add(double value);

  bool full() const { return values_.size() == window_; }
  // Returns the values, oldest first.
  std::vector<double> values() const;

 private:
  size_t window_;
  size_t next_ = 0;             // where the next value goes once the window is full: the oldest one's place
  std::vector<double> values_;  // a ring
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_TRAIN_SPIKE_DETECTOR_H_
