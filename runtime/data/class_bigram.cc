#include "runtime/data/class_bigram.h"

#include <cmath>
#include <cstddef>
#include <numeric>

#include "runtime/parallel_for.h"

namespace isthmus {
namespace {

double SumOf(const std::vector<uint64_t>& counts) {
  return static_cast<double>(std::accumulate(counts.begin(), counts.end(), uint64_t{0}));
}

}  // namespace

ClassBigram::ClassBigram(const CorpusBigrams& bigrams)
    : training_(bigrams.training.Transposed()),
      held_out_(bigrams.held_out.Transposed()),
      next_counts_(bigrams.training.RowSums()),
      training_pairs_(SumOf(next_counts_)),
      held_out_pairs_(SumOf(held_out_.RowSums())) {}

double ClassBigram::Loss(absl::Span<const int32_t> cluster_of, int64_t clusters) const {
  if (held_out_pairs_ == 0) return 0;
  const auto cluster = [&](int32_t token) { return static_cast<size_t>(cluster_of[static_cast<size_t>(token)]); };
  // Each token counts as if it had been seen half a time more.
  const double everything = training_pairs_ + 0.5 * static_cast<double>(cluster_of.size());
  std::vector<double> weight(static_cast<size_t>(clusters), 0);
  for (size_t token = 0; token < cluster_of.size(); ++token) {
    weight[static_cast<size_t>(cluster_of[token])] += static_cast<double>(next_counts_[token]) + 0.5;
  }
  std::vector<double> nats(static_cast<size_t>(held_out_.rows()), 0);  // of each previous token
  constexpr int64_t kRows = 64;
  ParallelFor(held_out_.rows(), kRows, [&](int64_t begin, int64_t end, int) {
    std::vector<double> follows(static_cast<size_t>(clusters), 0);
    for (int64_t previous = begin; previous < end; ++previous) {
      double pairs = 0, different = 0;
      for (const auto& [next, count] : training_.Row(previous)) {
        double& seen = follows[cluster(next)];
        if (seen == 0) ++different;
        seen += count;
        pairs += count;
      }
      for (const auto& [next, count] : held_out_.Row(previous)) {
        const double share = weight[cluster(next)] / everything;
        const double of_cluster =
            pairs == 0 ? share : (follows[cluster(next)] + different * share) / (pairs + different);
        const double of_token =
            (static_cast<double>(next_counts_[static_cast<size_t>(next)]) + 0.5) / weight[cluster(next)];
        nats[static_cast<size_t>(previous)] -= count * (std::log(of_cluster) + std::log(of_token));
      }
      for (const auto& [next, count] : training_.Row(previous)) follows[cluster(next)] = 0;
    }
  });
  return std::accumulate(nats.begin(), nats.end(), 0.0) / held_out_pairs_;
}

}  // namespace isthmus
