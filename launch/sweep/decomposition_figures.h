// Reads the figures of one decomposition from the file that `isthmus decompose --json` writes.
#ifndef ISTHMUS_LAUNCH_SWEEP_DECOMPOSITION_FIGURES_H_
#define ISTHMUS_LAUNCH_SWEEP_DECOMPOSITION_FIGURES_H_

#include <absl/status/statusor.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "launch/sweep/statistics.h"

namespace isthmus::sweep {

// A value with the interval of resamples of whole sequences, at 95 %. NaN where there is none.
struct Measured {
  double value = std::numeric_limits<double>::quiet_NaN();
  Interval interval = {value, value};

  // Whether the interval is there and does not hold `other`.
  bool Excludes(double other) const { return interval.Excludes(other); }
};

// How many times more of the gradient's norm a control passes on than √(rank/V): the root of the mean of the squares over
// draws, whose expectation is 1 for a head in random position. The interval is Student's of that mean. `one` is where one
// more draw lies at 95 %: Student's interval for a new value.
struct ControlGain {
  int64_t draws = 0;
  Measured gain;
  Interval one = gain.interval;
};

// Returns the gain of a control that may not have been drawn.
Measured GainOf(const std::optional<ControlGain>& control);
// Returns 1 if a gain's interval lies above both 1 and where one head in random position lies, -1 if below both, else 0.
// An interval of resamples holds for one head. A single random head may well have a gain that it shows not to be 1.
int SideOf(const Measured& gain, const std::optional<ControlGain>& random_head);

struct DecompositionFigures {
  struct Bucket {  // of tokens, by how frequent their target is
    std::string name;
    double most_frequent_percent = 0;  // the bucket ends there
    int64_t tokens = 0;
    Measured alignment_gain;  // none in a bucket without tokens
  };

  int64_t tokens = 0, vocabulary = 0, width = 0, rank = 0;  // rank of W, as found
  int64_t sequence_length = 0, sequences = 0;
  int64_t resamples = 0;
  double loss = 0;
  Measured visible_cosine, lost_norm_ratio, lost_energy_ratio, alignment_gain;
  double isotropic_visible_cosine = 0;                    // √(rank/V)
  std::optional<ControlGain> random_head, random_hidden;  // if controls were drawn
  std::vector<Bucket> buckets;                            // from the most frequent
};

// Errors: by errno; DataLoss naming the file and what it lacks.
absl::StatusOr<DecompositionFigures> ReadDecomposition(const std::string& path);

}  // namespace isthmus::sweep

#endif  // ISTHMUS_LAUNCH_SWEEP_DECOMPOSITION_FIGURES_H_
