// Buckets divide the vocabulary by how frequent its tokens are: the most frequent 0.1 %, those up to 1 %, up to 10 %,
// the rest.
#ifndef ISTHMUS_MODEL_MEASURE_FREQUENCY_BUCKETS_H_
#define ISTHMUS_MODEL_MEASURE_FREQUENCY_BUCKETS_H_

#include <absl/types/span.h>

#include <array>
#include <cstdint>
#include <vector>

namespace isthmus {

inline constexpr int kFrequencyBuckets = 4;
// The array holds the upper end of each bucket as a share of the vocabulary, in percent.
inline constexpr std::array<double, kFrequencyBuckets> kBucketPercent = {0.1, 1, 10, 100};
// The names of the buckets in records and files.
inline constexpr std::array<const char*, kFrequencyBuckets> kBucketNames = {"top_0.1_percent", "top_1_percent",
                                                                            "top_10_percent", "rest"};

// Returns the bucket of every vocabulary row. Shares of V are rounded up, so that the first bucket is never empty.
// Equal counts are ordered by row.
std::vector<uint8_t> FrequencyBuckets(absl::Span<const uint64_t> counts);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_FREQUENCY_BUCKETS_H_
