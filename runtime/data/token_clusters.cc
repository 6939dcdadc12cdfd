#include "runtime/data/token_clusters.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>

#include "runtime/data/balanced_assignment.h"
#include "runtime/data/cluster_exchange.h"
#include "runtime/data/cluster_scores.h"

namespace isthmus {
namespace {

// Returns the sizes of balanced clusters, [clusters]. The first ones are larger by one where it does not divide.
std::vector<int64_t> BalancedSizes(int64_t vocabulary, int64_t clusters) {
  std::vector<int64_t> sizes(static_cast<size_t>(clusters), vocabulary / clusters);
  for (int64_t c = 0; c < vocabulary % clusters; ++c) ++sizes[static_cast<size_t>(c)];
  return sizes;
}

template <typename Numbers>
auto Total(const Numbers& numbers) {
  return std::accumulate(numbers.begin(), numbers.end(), typename Numbers::value_type{0});
}

std::vector<int32_t> ByFallingFrequency(absl::Span<const uint64_t> counts) {
  std::vector<int32_t> order(counts.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return counts[static_cast<size_t>(a)] > counts[static_cast<size_t>(b)];
  });
  return order;
}

// Begins with one row in each group, and lets more and more take part. Rows come by falling frequency.
std::vector<int32_t> Grow(const SparseCounts& counts, const ClusterScorer& scorer, absl::Span<const int64_t> room) {
  // Slower growth gains little and takes longer (runtime/data/README.md).
  constexpr int64_t kGrowth = 4;
  // An assignment may miss the best one by so many nats per token of the corpus.
  constexpr double kTolerance = 2e-4;
  const auto groups = static_cast<int64_t>(room.size());
  const int64_t rows = counts.rows(), all_room = Total(room);
  const double tolerance = kTolerance * static_cast<double>(Total(counts.RowSums())) / static_cast<double>(rows);
  std::vector<int32_t> group_of(static_cast<size_t>(rows), -1);
  int64_t part = std::min(groups, rows);
  std::iota(group_of.begin(), group_of.begin() + part, 0);
  while (part < rows) {
    part = std::min(kGrowth * part, rows);
    std::vector<int64_t> part_room(room.begin(), room.end());
    if (part < rows) {
      for (int64_t& r : part_room) r = (r * part + all_room - 1) / all_room;
    }
    const std::vector<int32_t> better = AssignBalanced(scorer.Scores(group_of, part, groups), part_room, tolerance);
    std::copy(better.begin(), better.end(), group_of.begin());
  }
  return group_of;
}

// Returns a group of each row of `counts`, [M]. Group g gets at most room[g]. Rows come by falling frequency.
std::vector<int32_t> Partition(const SparseCounts& counts, absl::Span<const int64_t> room) {
  constexpr int kMostPasses = 8, kFewExchanges = 1000;
  const ClusterScorer scorer(counts);
  const auto groups = static_cast<int64_t>(room.size());
  ClusterTable table(counts, Grow(counts, scorer, room), groups);
  std::vector<int64_t> free(room.begin(), room.end());
  for (const int32_t group : table.cluster_of()) --free[static_cast<size_t>(group)];
  for (int pass = 0; pass < kMostPasses; ++pass) {
    const std::vector<float> scores = scorer.Scores(table.cluster_of(), counts.rows(), groups);
    if (ExchangeTokens(scores, table, free) * kFewExchanges < counts.rows()) break;
  }
  return table.cluster_of();
}

// Gives each of `tokens`, which come by falling frequency, a cluster. Clusters first, first + 1, … have room for
// sizes[0], sizes[1], … of them.
void Split(const SparseCounts& bigrams, absl::Span<const int32_t> tokens, absl::Span<const int64_t> sizes,
           int32_t first, std::vector<int32_t>& cluster_of) {
  if (tokens.empty()) return;
  if (sizes.size() == 1) {
    for (const int32_t token : tokens) cluster_of[static_cast<size_t>(token)] = first;
    return;
  }
  // Tables of so many numbers have 1 GiB.
  constexpr int64_t kMostNumbers = int64_t{1} << 28, kMostGroups = 1024;
  const auto clusters = static_cast<int64_t>(sizes.size());
  const int64_t most = std::clamp<int64_t>(kMostNumbers / bigrams.columns(), 2, kMostGroups);
  const int64_t groups =
      clusters <= most ? clusters
                       : std::min(most, static_cast<int64_t>(std::llround(std::sqrt(static_cast<double>(clusters)))));
  const auto begin = [&](int64_t group) { return static_cast<size_t>(clusters * group / groups); };
  std::vector<int64_t> room;
  for (int64_t group = 0; group < groups; ++group) {
    const auto of_group = sizes.subspan(begin(group), begin(group + 1) - begin(group));
    room.push_back(Total(of_group));
  }
  std::vector<std::vector<int32_t>> members(static_cast<size_t>(groups));
  {
    const std::vector<int32_t> group_of = Partition(bigrams.Rows(tokens), room);
    for (size_t i = 0; i < tokens.size(); ++i) members[static_cast<size_t>(group_of[i])].push_back(tokens[i]);
  }
  for (int64_t group = 0; group < groups; ++group) {
    Split(bigrams, members[static_cast<size_t>(group)], sizes.subspan(begin(group), begin(group + 1) - begin(group)),
          first + static_cast<int32_t>(begin(group)), cluster_of);
  }
}

// Numbers clusters by falling frequency, and equally frequent ones by their first token.
void Renumber(absl::Span<const uint64_t> counts, int64_t clusters, std::vector<int32_t>& cluster_of) {
  std::vector<uint64_t> total(static_cast<size_t>(clusters), 0);
  std::vector<size_t> first_token(static_cast<size_t>(clusters), std::numeric_limits<size_t>::max());
  for (size_t token = 0; token < cluster_of.size(); ++token) {
    const auto cluster = static_cast<size_t>(cluster_of[token]);
    total[cluster] += counts[token];
    first_token[cluster] = std::min(first_token[cluster], token);
  }
  std::vector<int32_t> order(static_cast<size_t>(clusters)), number(order.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    const auto left = static_cast<size_t>(a), right = static_cast<size_t>(b);
    return total[left] != total[right] ? total[left] > total[right] : first_token[left] < first_token[right];
  });
  for (size_t i = 0; i < order.size(); ++i) number[static_cast<size_t>(order[i])] = static_cast<int32_t>(i);
  for (int32_t& cluster : cluster_of) cluster = number[static_cast<size_t>(cluster)];
}

}  // namespace

std::vector<int32_t> ClusterTokens(const SparseCounts& bigrams, int64_t clusters) {
  const std::vector<uint64_t> counts = bigrams.RowSums();
  std::vector<int32_t> seen = ByFallingFrequency(counts);
  while (!seen.empty() && counts[static_cast<size_t>(seen.back())] == 0) seen.pop_back();
  const std::vector<int64_t> sizes = BalancedSizes(bigrams.rows(), clusters);
  std::vector<int32_t> cluster_of(counts.size(), -1);
  Split(bigrams, seen, sizes, 0, cluster_of);
  std::vector<int64_t> left = sizes;
  for (const int32_t token : seen) --left[static_cast<size_t>(cluster_of[static_cast<size_t>(token)])];
  size_t cluster = 0;
  for (int32_t& of_token : cluster_of) {
    if (of_token >= 0) continue;
    while (left[cluster] == 0) ++cluster;
    of_token = static_cast<int32_t>(cluster);
    --left[cluster];
  }
  Renumber(counts, clusters, cluster_of);
  return cluster_of;
}

}  // namespace isthmus
