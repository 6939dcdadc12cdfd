// Balanced clusters of the vocabulary: tokens of a cluster come after the same tokens.
#ifndef ISTHMUS_RUNTIME_DATA_TOKEN_CLUSTERS_H_
#define ISTHMUS_RUNTIME_DATA_TOKEN_CLUSTERS_H_

#include <absl/types/span.h>

#include <cstdint>
#include <vector>

#include "runtime/data/sparse_counts.h"

namespace isthmus {

// Returns the cluster of each token, [V]: 0 to clusters − 1, by falling frequency of all of a cluster's tokens. No two
// clusters differ by more than one token in size.
//
//   bigrams   [V, V]  element [next, previous], as CountBigrams makes it
//   clusters  1 to V
//
// The clusters nearly maximise the mutual information of the previous token and the cluster of the next. Tokens go
// where their previous tokens are likeliest (Dhillon et al. 2003, "A divisive information-theoretic feature clustering
// algorithm"; here room is limited). The most frequent tokens begin, one in each cluster, and then four times as many
// take part at a time. At the end pairs of tokens change places while that helps. More than 1024 clusters are made in
// two or more levels. Tokens that follow no other fill what is left, in their order.
//
// Deterministic: the number of threads does not matter. Memory: three tables of 4·V·min(clusters, 1024) bytes, each of
// at most 1 GiB.
std::vector<int32_t> ClusterTokens(const SparseCounts& bigrams, int64_t clusters);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_DATA_TOKEN_CLUSTERS_H_
