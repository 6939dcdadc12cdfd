// Clusters of a vocabulary by how frequent its tokens are.
#ifndef ISTHMUS_RUNTIME_DATA_FREQUENCY_CLUSTERS_H_
#define ISTHMUS_RUNTIME_DATA_FREQUENCY_CLUSTERS_H_

#include <absl/types/span.h>

#include <cstdint>
#include <vector>

namespace isthmus {

// Returns the cluster of each token, [V], 0 to clusters - 1. Cluster 0 has the most frequent tokens, and each cluster
// has about `growth` times as many tokens as the one before, at least one. Equal counts are ordered by token.
// `clusters` is 1 to V, `growth` is 1 or more.
std::vector<int32_t> FrequencyClusters(absl::Span<const uint64_t> counts, int64_t clusters, double growth);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_DATA_FREQUENCY_CLUSTERS_H_
