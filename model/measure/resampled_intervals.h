// Finds intervals of a decomposition's figures from sums by block of tokens (model/measure/head_intervals.h).
#ifndef ISTHMUS_MODEL_MEASURE_RESAMPLED_INTERVALS_H_
#define ISTHMUS_MODEL_MEASURE_RESAMPLED_INTERVALS_H_

#include <absl/types/span.h>

#include <cstdint>

#include "model/measure/block_energies.h"
#include "model/measure/head_intervals.h"

namespace isthmus {

// `blocks` are those of all ranks, two at least. `rank` is that of W. The i-th draw of resample r takes block (w B) >>
// 32, with w the word i mod 4 of Philox::Words(0, RandomPurpose::kResample, r, i / 4) and B blocks. Every mesh thus
// draws the same. Deterministic. Cost: resamples · B draws.
HeadIntervals ResampledIntervals(const BlockEnergies& blocks, int64_t resamples, int64_t rank, int64_t vocabulary);

// Returns the value at place probability · (n - 1) of n ascending values, straight between two of them; NaN if there
// are none.
double Percentile(absl::Span<const double> ascending, double probability);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_RESAMPLED_INTERVALS_H_
