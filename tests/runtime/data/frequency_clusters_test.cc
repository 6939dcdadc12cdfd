#include "runtime/data/frequency_clusters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace isthmus {
namespace {

using ::testing::ElementsAre;

TEST(FrequencyClusters, HaveTheMostFrequentTokensFirst) {
  EXPECT_THAT(FrequencyClusters({3, 9, 1, 9, 2, 0, 5}, 3, 2), ElementsAre(2, 0, 2, 1, 2, 2, 1));
}

TEST(FrequencyClusters, Grow) {
  std::vector<uint64_t> counts;
  for (uint64_t token = 0; token < 49152; ++token) counts.push_back(token * 7919 % 49157);
  const std::vector<int32_t> clusters = FrequencyClusters(counts, 3, 4);
  std::vector<int64_t> sizes(3);
  for (const int32_t cluster : clusters) ++sizes[static_cast<size_t>(cluster)];
  // 49,152 tokens as 1 : 4 : 16.
  EXPECT_THAT(sizes, ElementsAre(2341, 9362, 37449));
  uint64_t least_of_first = UINT64_MAX, most_of_last = 0;
  for (size_t token = 0; token < counts.size(); ++token) {
    if (clusters[token] == 0) least_of_first = std::min(least_of_first, counts[token]);
    if (clusters[token] == 2) most_of_last = std::max(most_of_last, counts[token]);
  }
  EXPECT_GT(least_of_first, most_of_last);
}

TEST(FrequencyClusters, AreNeverEmpty) {
  for (const int64_t vocabulary : {1, 2, 7, 101}) {
    for (int64_t count = 1; count <= vocabulary; ++count) {
      for (const double growth : {1.0, 4.0, 1e6}) {
        std::vector<int64_t> sizes(static_cast<size_t>(count));
        const std::vector<uint64_t> counts(static_cast<size_t>(vocabulary), 3);
        for (const int32_t cluster : FrequencyClusters(counts, count, growth)) ++sizes.at(static_cast<size_t>(cluster));
        EXPECT_GE(*std::min_element(sizes.begin(), sizes.end()), 1) << vocabulary << " " << count << " " << growth;
      }
    }
  }
}

}  // namespace
}  // namespace isthmus
