#include "runtime/data/spamlang.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "runtime/data/batch_loader.h"
#include "runtime/data/sample_order.h"
#include "runtime/data/token_shard.h"

namespace isthmus {
namespace {

constexpr SpamLangShape kSpamShape = {.symbols = 50, .vocabulary = 64, .sequence_length = 3};

std::shared_ptr<const SpamLang> SpamSource(SpamLang::Use use = SpamLang::Use::kTraining,
                                           const SpamLangShape& shape = kSpamShape) {
  return std::make_shared<const SpamLang>(shape, use);
}

// Returns the symbols of batches from `first` on, of all data ranks in order; each sequence must repeat one.
std::vector<int32_t> SpamSymbols(int data_ranks, int64_t first, int64_t batches, uint64_t seed,
                                 std::vector<int64_t> pass_over = {}) {
  std::vector<std::unique_ptr<BatchLoader>> loaders;
  for (int rank = 0; rank < data_ranks; ++rank) {
    BatchLoaderOptions options{
        .sequences = 8, .data_rank = rank, .data_ranks = data_ranks, .seed = seed, .first_batch = first};
    options.pass_over = pass_over;
    loaders.push_back(std::make_unique<BatchLoader>(AllSamples(SpamSource()), options));
  }
  std::vector<int32_t> symbols;
  for (int64_t i = 0; i < batches; ++i) {
    for (auto& loader : loaders) {
      auto batch = loader->Next();
      EXPECT_TRUE(batch.ok()) << batch.status();
      EXPECT_EQ(batch->id_values, batch->target_values);
      for (size_t n = 0; n < batch->id_values.size(); ++n) {
        if (n % 3 == 0) symbols.push_back(batch->id_values[n]);
        EXPECT_EQ(batch->id_values[n], symbols.back());
      }
    }
  }
  return symbols;
}

TEST(SpamLang, BatchesAreTheSameForEveryNumberOfDataRanksAndAfterAStartAnywhere) {
  const std::vector<int32_t> all = SpamSymbols(1, 1, 20, 3);
  EXPECT_EQ(all, SpamSymbols(2, 1, 20, 3));
  EXPECT_EQ(all, SpamSymbols(4, 1, 20, 3));
  EXPECT_EQ(std::vector<int32_t>(all.begin() + 8 * 12, all.end()), SpamSymbols(2, 13, 8, 3));
  EXPECT_NE(all, SpamSymbols(1, 1, 20, 4));
  // Batches that are passed over change no other.
  std::vector<int32_t> some = SpamSymbols(1, 1, 2, 3, {2});
  EXPECT_EQ(std::vector<int32_t>(some.begin() + 8, some.end()),
            std::vector<int32_t>(all.begin() + 16, all.begin() + 24));
}

// Pearson's statistic of draws into as many cells, less its expectation, in standard deviations.
double ChiSquareDeviations(const std::map<int64_t, int64_t>& cells, double draws, double count) {
  double sum = 0, met = 0;
  for (const auto& [cell, number] : cells) {
    const double expected = draws / count, off = static_cast<double>(number) - expected;
    sum += off * off / expected;
    met += 1;
  }
  sum += (count - met) * draws / count;  // the empty cells
  return (sum - (count - 1)) / std::sqrt(2 * (count - 1));
}

TEST(SpamLang, SymbolsAreUniformAndIndependentInTheOrderOfAnySeed) {
  for (const int64_t symbols : {2, 50, 64, 1000}) {
    const auto source =
        SpamSource(SpamLang::Use::kTraining, {.symbols = symbols, .vocabulary = 1000, .sequence_length = 1});
    for (const uint64_t seed : {0, 1, 12345}) {
      SCOPED_TRACE(symbols * 1000000 + static_cast<int64_t>(seed));
      constexpr int64_t kDraws = 200000;
      std::map<int64_t, int64_t> singles, pairs;
      int64_t before = 0;
      for (int64_t i = 0; i < kDraws; ++i) {
        const auto sample = SampleAt(static_cast<uint64_t>(i), static_cast<uint64_t>(source->samples()), seed);
        const int64_t symbol = source->Symbol(static_cast<int64_t>(sample));
        ASSERT_TRUE(symbol >= 0 && symbol < symbols);
        ++singles[symbol];
        if (i % 2 == 1) ++pairs[before * symbols + symbol];
        before = symbol;
      }
      const auto count = static_cast<double>(symbols);
      EXPECT_LT(std::abs(ChiSquareDeviations(singles, kDraws, count)), 4);
      if (symbols < 1000) {
        EXPECT_LT(std::abs(ChiSquareDeviations(pairs, kDraws / 2.0, count * count)), 4);
      }
      // One symbol in a thousand too many would be noticed, and so would symbols that all occur equally often.
      singles[0] += kDraws / 50;
      EXPECT_GT(ChiSquareDeviations(singles, kDraws * 1.02, count), 4);
      for (int64_t v = 0; v < symbols; ++v) singles[v] = kDraws / symbols;
      if (symbols > 50) {
        EXPECT_LT(ChiSquareDeviations(singles, kDraws, count), -4);
      }
    }
  }
}

TEST(SpamLang, ValidationHasEachSymbolOnce) {
  const auto source = SpamSource(SpamLang::Use::kValidation);
  EXPECT_EQ(source->samples(), 50);
  std::set<int32_t> symbols;
  std::vector<int32_t> sample(4);
  for (int64_t i = 0; i < source->samples(); ++i) {
    ASSERT_TRUE(source->Read(i, absl::MakeSpan(sample)).ok());
    EXPECT_EQ(sample, std::vector<int32_t>(4, sample.front()));
    symbols.insert(sample.front());
  }
  EXPECT_EQ(symbols.size(), 50u);
  EXPECT_EQ(*symbols.rbegin(), 49);
}

TEST(SpamLang, CountsAreUniformOverTheSymbolsAndTheirEntropyIsTheLogarithmOfS) {
  const auto source = SpamSource();
  const std::vector<uint64_t>& counts = source->Counts();
  ASSERT_EQ(counts.size(), 64u);
  for (size_t v = 0; v < 64; ++v) EXPECT_EQ(counts[v], v < 50 ? counts[0] : 0) << v;
  EXPECT_GT(counts[0], 0u);
  EXPECT_NEAR(UnigramEntropy(counts), std::log(50), 1e-12);
}

TEST(SpamLang, OtherSettingsAreOtherData) {
  std::set<uint64_t> fingerprints;
  for (const int64_t symbols : {49, 50}) {
    SpamLangShape shape = kSpamShape;
    shape.symbols = symbols;
    for (const auto use : {SpamLang::Use::kTraining, SpamLang::Use::kValidation}) {
      fingerprints.insert(SpamSource(use, shape)->fingerprint());
    }
  }
  EXPECT_EQ(fingerprints.size(), 4u);
  EXPECT_EQ(SpamSource()->fingerprint(), SpamSource()->fingerprint());
  EXPECT_EQ(SpamSource()->tokenizer_fingerprint(), 0u);
}

}  // namespace
}  // namespace isthmus
