// Says how well tokens fit into clusters, by the tokens that come before them.
#ifndef ISTHMUS_RUNTIME_DATA_CLUSTER_SCORES_H_
#define ISTHMUS_RUNTIME_DATA_CLUSTER_SCORES_H_

#include <absl/types/span.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/data/sparse_counts.h"

namespace isthmus {

// Holds counts of some tokens, with what all calls of Scores share.
class ClusterScorer {
 public:
  // `counts` [M, V]: how often each of M tokens came after each token of the vocabulary. It must live as long as this.
  explicit ClusterScorer(const SparseCounts& counts);

  // Returns the scores of the first `rows` tokens in all clusters, [rows, clusters]:
  //
  //   score[v, c] = Σ_u N(u, v) · log((N(u, c) + α p(u)) / (N(c) + α))
  //
  // N(u, c) sums over the tokens of cluster c but v. p(u) is the share of the previous token u in all N counts, and α is
  // N / clusters / 32. `cluster_of` [M] holds the clusters, or −1 for tokens in none. The number of threads does not
  // change the bits.
  std::vector<float> Scores(absl::Span<const int32_t> cluster_of, int64_t rows, int64_t clusters) const;

 private:
  static constexpr size_t kTile = 16;
  // This holds numbers of one token and so many clusters. GCC's vector type keeps sums of them in registers.
  struct Tile {
    [[gnu::vector_size(kTile * sizeof(float))]] float values = {};
  };
  static constexpr size_t TilesOf(size_t clusters) { return (clusters + kTile - 1) / kTile; }

  // Returns log(N(u, c) + α p(u)) − log(N(c) + α), [tiles, V]. It is 0 for tokens u that come before none. The tiles of
  // 50,000 tokens stay in a cache of 4 MB while all rows pass.
  std::vector<Tile> LogShares(absl::Span<const int32_t> cluster_of, absl::Span<const double> cluster_counts,
                              double alpha) const;
  // Replaces the score of each token in its own cluster by the one without its own counts.
  void LeaveOneOut(absl::Span<const int32_t> cluster_of, absl::Span<const double> cluster_counts, double alpha,
                   absl::Span<float> scores) const;

  const SparseCounts& counts_;
  SparseCounts by_previous_;  // [V, M]
  std::vector<uint64_t> row_sums_;
  std::vector<double> share_;  // p(u), [V]
  double all_ = 0;             // N
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_DATA_CLUSTER_SCORES_H_
