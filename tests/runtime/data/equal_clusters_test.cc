#include "runtime/data/equal_clusters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace isthmus {
namespace {

using ::testing::ElementsAre;

TEST(EqualClusters, DifferByOneTokenAtMost) {
  for (const int64_t vocabulary : {1, 7, 101, 4096}) {
    for (const int64_t count : {int64_t{1}, (vocabulary + 2) / 3, vocabulary}) {
      std::vector<int64_t> sizes(static_cast<size_t>(count));
      for (const int32_t cluster : OrderedClusters(vocabulary, count)) ++sizes[static_cast<size_t>(cluster)];
      const auto [least, most] = std::minmax_element(sizes.begin(), sizes.end());
      EXPECT_GE(*least, 1);
      EXPECT_LE(*most - *least, 1);
      // A shuffle has the same sizes.
      std::vector<int32_t> shuffled = ShuffledClusters(vocabulary, count, 5);
      std::sort(shuffled.begin(), shuffled.end());
      EXPECT_EQ(shuffled, OrderedClusters(vocabulary, count));
    }
  }
}

// A run is a function of its seed: these must never change.
TEST(EqualClusters, AShuffleIsAFunctionOfTheSeed) {
  EXPECT_EQ(ShuffledClusters(500, 9, 5), ShuffledClusters(500, 9, 5));
  EXPECT_NE(ShuffledClusters(500, 9, 5), ShuffledClusters(500, 9, 6));
  EXPECT_THAT(ShuffledClusters(10, 3, 5), ElementsAre(1, 2, 1, 2, 0, 1, 0, 0, 2, 0));
}

// Each token is in each cluster equally often.
TEST(EqualClusters, AShuffleIsFair) {
  constexpr int kSeeds = 3000, kTokens = 6, kClusters = 3;
  int found[kTokens][kClusters] = {};
  for (int seed = 0; seed < kSeeds; ++seed) {
    const std::vector<int32_t> clusters = ShuffledClusters(kTokens, kClusters, static_cast<uint64_t>(seed));
    for (int token = 0; token < kTokens; ++token) ++found[token][clusters[static_cast<size_t>(token)]];
  }
  for (const auto& token : found) {
    for (const int count : token) EXPECT_NEAR(count, kSeeds / kClusters, 5 * 26);  // five deviations
  }
}

}  // namespace
}  // namespace isthmus
