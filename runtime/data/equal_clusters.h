// Cuts a vocabulary into clusters of equal sizes, without a look at any text. Sizes differ by one token at most.
#ifndef ISTHMUS_RUNTIME_DATA_EQUAL_CLUSTERS_H_
#define ISTHMUS_RUNTIME_DATA_EQUAL_CLUSTERS_H_

#include <cstdint>
#include <vector>

namespace isthmus {

// Returns the cluster of each token, [V], 0 to clusters - 1: tokens of a cluster follow one another. `clusters` is 1 to
// `vocabulary`.
std::vector<int32_t> OrderedClusters(int64_t vocabulary, int64_t clusters);

// Returns clusters of the same sizes, with the tokens in an order that `seed` decides.
std::vector<int32_t> ShuffledClusters(int64_t vocabulary, int64_t clusters, uint64_t seed);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_DATA_EQUAL_CLUSTERS_H_
