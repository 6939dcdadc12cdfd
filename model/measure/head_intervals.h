// How far the figures of G_∥ would move with other tokens of the same kind: percentile intervals at 95 % (Efron 1979).
// Blocks of consecutive tokens are drawn with replacement, as many as there are, because tokens of a sequence resemble
// each other. A block is a sequence of a checkpoint's batch. With q the share of the energy of the drawn tokens' G
// that lies in their G_∥, a resample has
//
//   q = Σ ‖G_∥[n, :]‖² / Σ ‖G[n, :]‖²,   visible_cosine = √q,   lost_norm_ratio = √(1 - q),
//   lost_energy_ratio = 1 - q,   alignment_gain = √q / √(rank(W) / V).
//
// An interval reaches from the 2.5th to the 97.5th percentile of the resamples' figure.
#ifndef ISTHMUS_MODEL_MEASURE_HEAD_INTERVALS_H_
#define ISTHMUS_MODEL_MEASURE_HEAD_INTERVALS_H_

#include <array>
#include <cstdint>
#include <limits>

#include "model/measure/frequency_buckets.h"

namespace isthmus {

inline constexpr double kConfidence = 0.95;
// More blocks, over all resamples, take too long.
inline constexpr int64_t kMostResampledBlocks = int64_t{1} << 33;

// NaN where it was not measured.
struct FigureInterval {
  static constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  double value = kNone;  // of the tokens themselves
  double low = kNone, high = kNone;
};

struct HeadIntervals {
  struct Figures {
    int64_t tokens = 0;     // of the tokens themselves
    int64_t resamples = 0;  // that have such tokens; the others are left out
    FigureInterval lost_norm_ratio, visible_cosine, alignment_gain, lost_energy_ratio;
  };
  int64_t blocks = 0, block_tokens = 0, resamples = 0;
  Figures all;
  // The same of the tokens whose target is that frequent (kBucketNames): their rows of G, over all of the vocabulary.
  // Buckets of HeadFigures are columns of G.
  std::array<Figures, kFrequencyBuckets> target_buckets;
};

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_HEAD_INTERVALS_H_
