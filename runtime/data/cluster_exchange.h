// Improves clusters of tokens by exchanging pairs of tokens between them.
#ifndef ISTHMUS_RUNTIME_DATA_CLUSTER_EXCHANGE_H_
#define ISTHMUS_RUNTIME_DATA_CLUSTER_EXCHANGE_H_

#include <absl/types/span.h>

#include <cstdint>
#include <vector>

#include "runtime/data/sparse_counts.h"

namespace isthmus {

// Clusters of tokens, with the counts of previous tokens before each cluster.
class ClusterTable {
 public:
  // `counts` [M, V] must live as long as this. `cluster_of` [M] holds values of 0 to clusters − 1.
  ClusterTable(const SparseCounts& counts, std::vector<int32_t> cluster_of, int64_t clusters);

  // Moves a token, and returns by how much the information grows: Σ_u Σ_c N(u, c) log N(u, c) − Σ_c N(c) log N(c). It is,
  // but for a constant, N times the mutual information of the previous token and the cluster.
  double Move(int64_t token, int32_t to);

  const std::vector<int32_t>& cluster_of() const { return cluster_of_; }

 private:
  // Returns n log n.
  double CountLogCount(uint64_t n) const;

  const SparseCounts& counts_;
  std::vector<double> small_;  // n log n of small n; most counts are
  std::vector<int32_t> cluster_of_;
  size_t clusters_;
  std::vector<uint64_t> token_counts_;    // N(v), [M]
  std::vector<uint64_t> cluster_counts_;  // N(c), [clusters]
  std::vector<uint32_t> pair_counts_;     // N(u, c), [V, clusters]
};

// Goes once over the tokens, in order. Each may change places with a token of one of the clusters that fit it best, or
// take free room there. `scores` [M, clusters] finds the candidates (ClusterScorer::Scores with the same clusters). An
// exchange stays if it makes the information larger. `free` [clusters] is the room that is left.
//
// Returns how many exchanges stay.
int64_t ExchangeTokens(absl::Span<const float> scores, ClusterTable& table, std::vector<int64_t>& free);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_DATA_CLUSTER_EXCHANGE_H_
