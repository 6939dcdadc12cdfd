#include "runtime/data/cluster_scores.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <numeric>

#include "runtime/parallel_for.h"

namespace isthmus {
ClusterScorer::ClusterScorer(const SparseCounts& counts)
    : counts_(counts),
      by_previous_(counts.Transposed()),
      row_sums_(counts.RowSums()),
      share_(static_cast<size_t>(counts.columns())),
      all_(static_cast<double>(std::accumulate(row_sums_.begin(), row_sums_.end(), uint64_t{0}))) {
  const std::vector<uint64_t> previous = by_previous_.RowSums();
  for (size_t u = 0; u < share_.size(); ++u) share_[u] = static_cast<double>(previous[u]) / all_;
}

std::vector<ClusterScorer::Tile> ClusterScorer::LogShares(absl::Span<const int32_t> cluster_of,
                                                          absl::Span<const double> cluster_counts, double alpha) const {
  const size_t clusters = cluster_counts.size();
  std::vector<double> log_counts(clusters);
  for (size_t c = 0; c < clusters; ++c) log_counts[c] = std::log(cluster_counts[c] + alpha);
  std::vector<Tile> shares(TilesOf(clusters) * share_.size());
  constexpr int64_t kRows = 16;
  ParallelFor(counts_.columns(), kRows, [&](int64_t begin, int64_t end, int) {
    std::vector<double> sums(clusters);
    for (int64_t u = begin; u < end; ++u) {
      const auto row = by_previous_.Row(u);
      if (row.empty()) continue;
      std::fill(sums.begin(), sums.end(), 0.0);
      for (const auto& [token, count] : row) {
        if (const int32_t c = cluster_of[static_cast<size_t>(token)]; c >= 0) sums[static_cast<size_t>(c)] += count;
      }
      const double prior = alpha * share_[static_cast<size_t>(u)], log_prior = std::log(prior);
      for (size_t c = 0; c < clusters; ++c) {
        Tile& tile = shares[c / kTile * share_.size() + static_cast<size_t>(u)];
        tile.values[c % kTile] =
            static_cast<float>((sums[c] == 0 ? log_prior : std::log(sums[c] + prior)) - log_counts[c]);
      }
    }
  });
  return shares;
}

void ClusterScorer::LeaveOneOut(absl::Span<const int32_t> cluster_of, absl::Span<const double> cluster_counts,
                                double alpha, absl::Span<float> scores) const {
  const size_t clusters = cluster_counts.size(), rows = scores.size() / clusters;
  std::vector<std::vector<int64_t>> members(clusters);
  for (size_t row = 0; row < cluster_of.size(); ++row) {
    if (cluster_of[row] >= 0) members[static_cast<size_t>(cluster_of[row])].push_back(static_cast<int64_t>(row));
  }
  ParallelFor(static_cast<int64_t>(clusters), 1, [&](int64_t begin, int64_t end, int) {
    std::vector<double> sums(share_.size(), 0);
    for (auto c = static_cast<size_t>(begin); c < static_cast<size_t>(end); ++c) {
      for (const int64_t member : members[c]) {
        for (const auto& [u, count] : counts_.Row(member)) sums[static_cast<size_t>(u)] += count;
      }
      for (const int64_t member : members[c]) {
        const auto row = static_cast<size_t>(member);
        if (row >= rows) continue;
        const double others = std::log(cluster_counts[c] - static_cast<double>(row_sums_[row]) + alpha);
        double score = 0;
        for (const auto& [u, count] : counts_.Row(member)) {
          const auto place = static_cast<size_t>(u);
          score += count * (std::log(sums[place] - count + alpha * share_[place]) - others);
        }
        scores[row * clusters + c] = static_cast<float>(score);
      }
      for (const int64_t member : members[c]) {
        for (const auto& [u, count] : counts_.Row(member)) sums[static_cast<size_t>(u)] = 0;
      }
    }
  });
}

std::vector<float> ClusterScorer::Scores(absl::Span<const int32_t> cluster_of, int64_t rows, int64_t clusters) const {
  const auto width = static_cast<size_t>(clusters);
  std::vector<double> cluster_counts(width, 0);
  for (size_t row = 0; row < cluster_of.size(); ++row) {
    if (cluster_of[row] >= 0) {
      cluster_counts[static_cast<size_t>(cluster_of[row])] += static_cast<double>(row_sums_[row]);
    }
  }
  // The prior grows with the corpus. Its value matters little (runtime/data/README.md).
  constexpr double kPriorShare = 1.0 / 32;
  const double alpha = kPriorShare * all_ / static_cast<double>(clusters);
  const std::vector<Tile> shares = LogShares(cluster_of, cluster_counts, alpha);
  std::vector<float> scores(static_cast<size_t>(rows) * width, 0);
  // Rows come by falling frequency. A thread takes one row in so many, because ranges of rows would be uneven work.
  const int64_t stride = MaxThreads();
  ParallelFor(stride, 1, [&](int64_t begin, int64_t end, int) {
    for (size_t tile = 0; tile < TilesOf(width); ++tile) {
      const Tile* of_tile = shares.data() + tile * share_.size();
      const size_t first = tile * kTile, last = std::min(first + kTile, width);
      for (int64_t share = begin; share < end; ++share) {
        for (int64_t row = share; row < rows; row += stride) {
          Tile sums;
          for (const auto& [u, count] : counts_.Row(row)) {
            sums.values += static_cast<float>(count) * of_tile[u].values;
          }
          std::memcpy(scores.data() + static_cast<size_t>(row) * width + first, &sums, (last - first) * sizeof(float));
        }
      }
    }
  });
  LeaveOneOut(cluster_of, cluster_counts, alpha, absl::MakeSpan(scores));
  return scores;
}

}  // namespace isthmus
