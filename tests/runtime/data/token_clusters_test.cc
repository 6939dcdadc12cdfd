#include "runtime/data/token_clusters.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <map>
#include <utility>
#include <vector>

#include "runtime/data/cluster_exchange.h"
#include "runtime/data/cluster_scores.h"
#include "runtime/data/equal_clusters.h"
#include "runtime/data/sparse_counts.h"
#include "runtime/parallel_for.h"
#include "tests/support/class_language.h"

namespace isthmus {
namespace {

using testing::ClassLanguage;
using testing::CountPairs;
using testing::InOrderOfAppearance;
using testing::MatrixOf;
using testing::PairCounts;

// Numbers are 0 to clusters − 1, and sizes differ by one at most.
void ExpectBalanced(const std::vector<int32_t>& cluster_of, int64_t clusters) {
  std::vector<int64_t> sizes(static_cast<size_t>(clusters), 0);
  for (const int32_t cluster : cluster_of) {
    ASSERT_GE(cluster, 0);
    ASSERT_LT(cluster, clusters);
    ++sizes[static_cast<size_t>(cluster)];
  }
  const auto [least, most] = std::minmax_element(sizes.begin(), sizes.end());
  EXPECT_LE(*most - *least, 1) << clusters << " clusters";
}

// Returns N times the mutual information of previous token and cluster, in another way than ClusterTable.
double Information(const PairCounts& pairs, const std::vector<int32_t>& cluster_of) {
  std::map<std::pair<int32_t, int32_t>, double> joint;
  std::map<int32_t, double> previous, cluster;
  double all = 0;
  for (const auto& [pair, count] : pairs) {
    const int32_t c = cluster_of[static_cast<size_t>(pair.second)];
    joint[{pair.first, c}] += count;
    previous[pair.first] += count;
    cluster[c] += count;
    all += count;
  }
  double sum = 0;
  for (const auto& [pair, count] : joint) {
    sum += count * std::log(count * all / (previous[pair.first] * cluster[pair.second]));
  }
  return sum;
}

TEST(TokenClusters, ClassesOfALanguageAreFoundExactly) {
  for (const auto& [vocabulary, classes] : {std::pair{120, 6}, {256, 16}, {300, 20}, {64, 2}}) {
    SCOPED_TRACE(vocabulary);
    const ClassLanguage language(vocabulary, classes, 1);
    const PairCounts pairs = CountPairs(language.Text(400'000, 0));
    const auto found = ClusterTokens(MatrixOf(pairs, vocabulary), classes);
    ExpectBalanced(found, classes);
    EXPECT_EQ(InOrderOfAppearance(found), InOrderOfAppearance(language.class_of()));
    // Others have less information, so they would be noticed.
    std::vector<int32_t> other = found;
    std::swap(other[0], *std::find_if(other.begin(), other.end(), [&](int32_t c) { return c != other[0]; }));
    EXPECT_LT(Information(pairs, other), Information(pairs, found));
    EXPECT_NE(InOrderOfAppearance(ShuffledClusters(vocabulary, classes, 1)), InOrderOfAppearance(language.class_of()));
  }
}

TEST(TokenClusters, SizesDifferByOneAtMostForAnyNumberOfClusters) {
  constexpr int64_t kVocabulary = 47;
  const SparseCounts bigrams = MatrixOf(CountPairs(ClassLanguage(kVocabulary, 5, 1).Text(5'000, 0)), kVocabulary);
  for (int64_t clusters = 1; clusters <= kVocabulary; ++clusters) {
    ExpectBalanced(ClusterTokens(bigrams, clusters), clusters);
  }
}

TEST(TokenClusters, AreNumberedByFallingFrequency) {
  constexpr int64_t kVocabulary = 50;
  const SparseCounts bigrams = MatrixOf(CountPairs(ClassLanguage(kVocabulary, 5, 3).Text(5'000, 0)), kVocabulary);
  const auto counts = bigrams.RowSums();
  for (const int64_t clusters : {7, 50}) {
    const auto cluster_of = ClusterTokens(bigrams, clusters);
    std::vector<uint64_t> total(static_cast<size_t>(clusters), 0);
    for (size_t token = 0; token < counts.size(); ++token) {
      total[static_cast<size_t>(cluster_of[token])] += counts[token];
    }
    EXPECT_TRUE(std::is_sorted(total.rbegin(), total.rend())) << clusters;
  }
}

TEST(TokenClusters, TokensThatFollowNoneFillWhatIsLeft) {
  // Tokens 0 to 3 occur, in two classes: 0 and 1 follow 2 and 3, and the other way round.
  PairCounts pairs = {{{0, 2}, 9}, {{0, 3}, 9}, {{1, 2}, 9}, {{1, 3}, 9},
                      {{2, 0}, 5}, {{2, 1}, 5}, {{3, 0}, 5}, {{3, 1}, 5}};
  EXPECT_EQ(ClusterTokens(MatrixOf(pairs, 10), 2), (std::vector<int32_t>{1, 1, 0, 0, 1, 1, 1, 0, 0, 0}));
  // A token that only precedes has no counts either.
  pairs[{9, 0}] = 1;
  ExpectBalanced(ClusterTokens(MatrixOf(pairs, 10), 3), 3);
  // A single pair is enough.
  ExpectBalanced(ClusterTokens(MatrixOf({{{0, 0}, 1}}, 1000), 7), 7);
}

TEST(TokenClusters, ManyClustersAreMadeInLevels) {
  constexpr int64_t kVocabulary = 3000;
  const ClassLanguage language(kVocabulary, 60, 1);
  const PairCounts pairs = CountPairs(language.Text(200'000, 0));
  const SparseCounts bigrams = MatrixOf(pairs, kVocabulary);
  const auto found = ClusterTokens(bigrams, 1500);
  ExpectBalanced(found, 1500);
  EXPECT_GT(Information(pairs, found), 1.02 * Information(pairs, ShuffledClusters(kVocabulary, 1500, 1)));
}

TEST(TokenClusters, AreTheSameOnAnyNumberOfThreads) {
  constexpr int64_t kVocabulary = 500;
  const SparseCounts bigrams = MatrixOf(CountPairs(ClassLanguage(kVocabulary, 30, 1).Text(20'000, 0)), kVocabulary);
  const int threads = MaxThreads();
  std::vector<std::vector<int32_t>> found;
  for (const int count : {1, 2, 5}) {
    SetThreads(count);
    found.push_back(ClusterTokens(bigrams, 22));
  }
  SetThreads(threads);
  EXPECT_EQ(found[0], found[1]);
  EXPECT_EQ(found[0], found[2]);
}

TEST(ClusterExchange, GrowthIsThatOfTheInformation) {
  constexpr int64_t kVocabulary = 40;
  const PairCounts pairs = CountPairs(ClassLanguage(kVocabulary, 4, 1).Text(3'000, 0));
  const SparseCounts bigrams = MatrixOf(pairs, kVocabulary);
  ClusterTable table(bigrams, ShuffledClusters(kVocabulary, 5, 1), 5);
  for (int32_t i = 0; i < 60; ++i) {
    const double before = Information(pairs, table.cluster_of());
    const double growth = table.Move(i * 7 % kVocabulary, i * 3 % 5);
    EXPECT_NEAR(growth, Information(pairs, table.cluster_of()) - before, 1e-8);
  }
}

TEST(ClusterExchange, InformationGrowsAndSizesStay) {
  constexpr int64_t kVocabulary = 200, kClusters = 10;
  const PairCounts pairs = CountPairs(ClassLanguage(kVocabulary, 10, 1).Text(20'000, 0));
  const SparseCounts bigrams = MatrixOf(pairs, kVocabulary);
  ClusterTable table(bigrams, ShuffledClusters(kVocabulary, kClusters, 1), kClusters);
  const ClusterScorer scorer(bigrams);
  std::vector<int64_t> free(kClusters, 0);
  const double first = Information(pairs, table.cluster_of());
  double last = first;
  for (int pass = 0; pass < 5; ++pass) {
    const auto scores = scorer.Scores(table.cluster_of(), kVocabulary, kClusters);
    const int64_t exchanges = ExchangeTokens(scores, table, free);
    const double now = Information(pairs, table.cluster_of());
    if (exchanges > 0) {
      EXPECT_GT(now, last);
    } else {
      EXPECT_NEAR(now, last, 1e-8);
    }
    last = now;
    ExpectBalanced(table.cluster_of(), kClusters);
  }
  EXPECT_GT(last, 1.2 * first);
  // Free room is taken, and given back.
  std::fill(free.begin(), free.end(), 3);
  ExchangeTokens(scorer.Scores(table.cluster_of(), kVocabulary, kClusters), table, free);
  std::vector<int64_t> room = free;
  for (const int32_t cluster : table.cluster_of()) ++room[static_cast<size_t>(cluster)];
  EXPECT_EQ(room, std::vector<int64_t>(kClusters, kVocabulary / kClusters + 3));
}

// The formula of cluster_scores.h, term by term.
TEST(ClusterScores, AreThoseOfTheFormula) {
  constexpr int64_t kVocabulary = 30, kClusters = 4, kRows = 20;
  const PairCounts pairs = CountPairs(ClassLanguage(kVocabulary, 3, 1).Text(2'000, 0));
  const SparseCounts bigrams = MatrixOf(pairs, kVocabulary);
  std::vector<int32_t> cluster_of = ShuffledClusters(kVocabulary, kClusters, 1);
  cluster_of[3] = cluster_of[25] = -1;
  const double alpha = 1999.0 / kClusters / 32;
  const auto score = [&](int32_t token, int32_t cluster, bool leaves_out) {
    double of_cluster = 0, sum = 0;
    std::map<int32_t, double> share, in_cluster, own;
    for (const auto& [pair, count] : pairs) {
      share[pair.first] += count / 1999.0;
      if (pair.second == token) own[pair.first] += count;
      if (cluster_of[static_cast<size_t>(pair.second)] != cluster || (leaves_out && pair.second == token)) continue;
      of_cluster += count;
      in_cluster[pair.first] += count;
    }
    for (const auto& [previous, count] : own) {
      sum += count * std::log((in_cluster[previous] + alpha * share[previous]) / (of_cluster + alpha));
    }
    return sum;
  };
  const std::vector<float> scores = ClusterScorer(bigrams).Scores(cluster_of, kRows, kClusters);
  ASSERT_EQ(scores.size(), static_cast<size_t>(kRows * kClusters));
  double largest_error = 0, largest_without = 0;
  for (int32_t token = 0; token < kRows; ++token) {
    for (int32_t cluster = 0; cluster < kClusters; ++cluster) {
      const double found = scores[static_cast<size_t>(token * kClusters + cluster)];
      const double right = score(token, cluster, true), scale = 1 + std::fabs(right);
      largest_error = std::max(largest_error, std::fabs(found - right) / scale);
      largest_without = std::max(largest_without, std::fabs(score(token, cluster, false) - right) / scale);
    }
  }
  EXPECT_LT(largest_error, 1e-5);
  // Scores that count the token itself would be noticed.
  EXPECT_GT(largest_without, 1e-2);
}

}  // namespace
}  // namespace isthmus
