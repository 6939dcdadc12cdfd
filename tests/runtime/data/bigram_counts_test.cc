#include "runtime/data/bigram_counts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "runtime/data/sparse_counts.h"
#include "runtime/data/token_dataset.h"
#include "runtime/parallel_for.h"
#include "tests/support/class_language.h"
#include "tests/support/program.h"

namespace isthmus {
namespace {

using testing::ClassLanguage;
using ::testing::HasSubstr;
using testing::PairCounts;
using testing::TemporaryFolder;
using testing::WriteShard;

// Returns the counts as a map. Fails if the columns of a row don't ascend.
PairCounts PairsOf(const SparseCounts& counts) {
  PairCounts pairs;
  for (int32_t next = 0; next < counts.rows(); ++next) {
    int32_t last = -1;
    for (const auto& [previous, count] : counts.Row(next)) {
      EXPECT_LT(last, previous);
      last = previous;
      pairs[{previous, next}] = count;
    }
  }
  return pairs;
}

CorpusBigrams Count(const std::vector<std::string>& shards, const BigramSampling& sampling = {}) {
  const auto dataset = TokenDataset::Open(shards, 1);
  EXPECT_TRUE(dataset.ok()) << dataset.status();
  auto bigrams = CountBigrams(**dataset, sampling);
  EXPECT_TRUE(bigrams.ok()) << bigrams.status();
  return *std::move(bigrams);
}

uint64_t TotalOf(const PairCounts& pairs) {
  uint64_t total = 0;
  for (const auto& [pair, count] : pairs) total += count;
  return total;
}

// The blocks of `block` tokens of every shard are numbered; every sixteenth is held out.
struct Expected {
  PairCounts training, held_out;
};
Expected CountSlowly(const std::vector<std::vector<std::vector<int32_t>>>& shards, size_t block) {
  Expected expected;
  size_t first_block = 0;
  for (const auto& documents : shards) {
    size_t place = 0;
    for (const auto& document : documents) {
      for (size_t i = 0; i < document.size(); ++i, ++place) {
        const bool held_out = (first_block + place / block) % 16 == 15;
        if (i > 0) ++(held_out ? expected.held_out : expected.training)[{document[i - 1], document[i]}];
      }
    }
    first_block += (place + block - 1) / block;
  }
  return expected;
}

TEST(BigramCounts, PairsOfEveryDocumentAreCountedOnce) {
  const TemporaryFolder folder;
  const ClassLanguage language(90, 9, 1);
  std::vector<std::vector<std::vector<int32_t>>> shards(3);
  int64_t tokens = 0;
  for (size_t i = 0; i < 300; ++i) {
    const auto length = static_cast<int64_t>(1 + i * 37 % 211);
    shards[i < 120 ? 0 : i < 121 ? 1 : 2].push_back(language.Text(length, i));
    tokens += length;
  }
  std::vector<std::string> paths;
  for (size_t i = 0; i < shards.size(); ++i) {
    paths.push_back(folder / (std::to_string(i) + ".ids"));
    WriteShard(paths.back(), 90, shards[i]);
  }
  const Expected expected = CountSlowly(shards, static_cast<size_t>(tokens / 64));
  const CorpusBigrams bigrams = Count(paths);
  EXPECT_EQ(PairsOf(bigrams.training), expected.training);
  EXPECT_EQ(PairsOf(bigrams.held_out), expected.held_out);
  EXPECT_GT(TotalOf(expected.held_out), uint64_t{1000});
  // Across the boundaries of documents other pairs would be counted.
  Expected joined = expected;
  for (size_t i = 1; i < shards[0].size(); ++i) ++joined.training[{shards[0][i - 1].back(), shards[0][i].front()}];
  EXPECT_NE(PairsOf(bigrams.training), joined.training);
  // Any number of threads counts the same.
  const int threads = MaxThreads();
  SetThreads(3);
  const CorpusBigrams again = Count(paths);
  SetThreads(threads);
  EXPECT_EQ(PairsOf(again.training), expected.training);
  EXPECT_EQ(PairsOf(again.held_out), expected.held_out);
}

TEST(BigramCounts, ATextLongerThanAPartIsCountedOnce) {
  const TemporaryFolder folder;
  std::vector<int32_t> text(9'000'000);  // parts have 4,194,304 tokens
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<int32_t>(i * i % 1009 % 7);
  WriteShard(folder / "long.ids", 7, {text});
  const Expected expected = CountSlowly({{text}}, 4096);
  const CorpusBigrams bigrams = Count({folder / "long.ids"});
  EXPECT_EQ(PairsOf(bigrams.training), expected.training);
  EXPECT_EQ(PairsOf(bigrams.held_out), expected.held_out);
}

TEST(BigramCounts, ASampleHasAboutTheTokensAskedForAndFollowsItsSeed) {
  const TemporaryFolder folder;
  const ClassLanguage language(50, 5, 2);
  const auto all = language.Text(1'000'000, 0);
  WriteShard(folder / "x.ids", 50, {all});
  const auto sample = [&](uint64_t seed) {
    return PairsOf(Count({folder / "x.ids"}, {.tokens = 250'000, .seed = seed}).training);
  };
  const PairCounts one = sample(1);
  EXPECT_NEAR(static_cast<double>(TotalOf(one)), 250'000 * 15.0 / 16, 60'000);
  EXPECT_EQ(one, sample(1));
  EXPECT_NE(one, sample(2));
  const PairCounts whole = testing::CountPairs(all);
  for (const auto& [pair, count] : one) ASSERT_LE(count, whole.at(pair));
}

TEST(BigramCounts, ACorpusWithoutPairsIsAnError) {
  const TemporaryFolder folder;
  WriteShard(folder / "x.ids", 5, {{1}, {2}, {3}});
  const auto dataset = TokenDataset::Open({folder / "x.ids"}, 1);
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  const absl::Status status = CountBigrams(**dataset, {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("x.ids: no token follows another"));
}

TEST(SparseCounts, TransposedRowsAndSumsAreThoseOfTheMatrix) {
  const PairCounts pairs = testing::CountPairs(ClassLanguage(40, 4, 3).Text(3000, 0));
  const SparseCounts counts = testing::MatrixOf(pairs, 40), transposed = counts.Transposed();
  PairCounts exchanged;
  for (const auto& [pair, count] : PairsOf(transposed)) exchanged[{pair.second, pair.first}] = count;
  EXPECT_EQ(exchanged, pairs);
  const SparseCounts some = counts.Rows({7, 3});
  EXPECT_EQ(some.rows(), 2);
  EXPECT_EQ(some.columns(), 40);
  const auto sums = counts.RowSums();
  EXPECT_EQ(some.RowSums(), (std::vector<uint64_t>{sums[7], sums[3]}));
  uint64_t total = 0;
  for (const uint64_t sum : sums) total += sum;
  EXPECT_EQ(total, 2999u);
}

}  // namespace
}  // namespace isthmus
