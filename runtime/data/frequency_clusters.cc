#include "runtime/data/frequency_clusters.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>

namespace isthmus {

std::vector<int32_t> FrequencyClusters(absl::Span<const uint64_t> counts, int64_t clusters, double growth) {
  const auto vocabulary = static_cast<int64_t>(counts.size());
  std::vector<int32_t> order(counts.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return counts[static_cast<size_t>(a)] > counts[static_cast<size_t>(b)];
  });
  // All sizes relative to that of the last cluster, which does not overflow.
  double all = 0;
  for (int64_t i = 0; i < clusters; ++i) all += std::pow(growth, static_cast<double>(-i));
  std::vector<int32_t> cluster_of(counts.size());
  double share = 0;
  int64_t begin = 0;
  for (int64_t cluster = 0; cluster < clusters; ++cluster) {
    share += std::pow(growth, static_cast<double>(cluster - clusters + 1)) / all;
    // The clusters that follow need a token each.
    const int64_t end = std::clamp<int64_t>(std::llround(share * static_cast<double>(vocabulary)), begin + 1,
                                            vocabulary - (clusters - 1 - cluster));
    for (; begin < (cluster + 1 == clusters ? vocabulary : end); ++begin) {
      cluster_of[static_cast<size_t>(order[static_cast<size_t>(begin)])] = static_cast<int32_t>(cluster);
    }
  }
  return cluster_of;
}

}  // namespace isthmus
