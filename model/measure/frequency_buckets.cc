#include "model/measure/frequency_buckets.h"

#include <algorithm>
#include <numeric>

namespace isthmus {

std::vector<uint8_t> FrequencyBuckets(absl::Span<const uint64_t> counts) {
  std::vector<size_t> order(counts.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return counts[a] > counts[b]; });
  const size_t rows = counts.size();
  const size_t ends[kFrequencyBuckets] = {(rows + 999) / 1000, (rows + 99) / 100, (rows + 9) / 10, rows};
  std::vector<uint8_t> buckets(rows);
  uint8_t bucket = 0;
  for (size_t place = 0; place < rows; ++place) {
    while (place >= ends[bucket]) ++bucket;
    buckets[order[place]] = bucket;
  }
  return buckets;
}

}  // namespace isthmus
