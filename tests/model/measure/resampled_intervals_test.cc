// Intervals of a decomposition's figures: by hand, against resamples made token by token, and against the error of a
// ratio.
#include "model/measure/resampled_intervals.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "runtime/philox.h"

namespace isthmus::testing {
namespace {

constexpr int64_t kIntervalRank = 4, kIntervalRows = 64;

// A token's energies, and the bucket of its target.
struct EnergyOfToken {
  int bucket = 0;
  double energy = 1, retained = 0;
};

BlockEnergies EnergyBlocksOf(const std::vector<EnergyOfToken>& tokens, int64_t block_tokens) {
  BlockEnergies blocks(static_cast<int64_t>(tokens.size()), block_tokens);
  for (size_t n = 0; n < tokens.size(); ++n) {
    blocks.Add(static_cast<int64_t>(n), tokens[n].bucket, tokens[n].energy, tokens[n].retained);
  }
  return blocks;
}

std::vector<EnergyOfToken> RandomEnergies(size_t count) {
  std::vector<EnergyOfToken> tokens;
  for (size_t n = 0; n < count; ++n) {
    const auto uniform = [n](uint32_t stream) { return Philox::Uniform(3, RandomPurpose::kTest, stream, n); };
    const double energy = 0.5 + uniform(0);
    tokens.push_back({static_cast<int>(4 * uniform(1)), energy, energy * (0.05 + 0.1 * uniform(2))});
  }
  return tokens;
}

TEST(ResampledIntervals, PercentileLiesStraightBetweenTwoValues) {
  EXPECT_DOUBLE_EQ(Percentile({1, 2, 4}, 0.5), 2);
  EXPECT_DOUBLE_EQ(Percentile({1, 2, 4}, 0.75), 3);
  EXPECT_DOUBLE_EQ(Percentile({1, 2, 4}, 0), 1);
  EXPECT_DOUBLE_EQ(Percentile({1, 2, 4}, 1), 4);
  EXPECT_DOUBLE_EQ(Percentile({7}, 0.3), 7);
  EXPECT_TRUE(std::isnan(Percentile({}, 0.3)));
}

// A quarter of the resamples has the first block twice, and a quarter the second one.
TEST(ResampledIntervals, OfTwoBlocksReachFromOneToTheOther) {
  const HeadIntervals found = ResampledIntervals(EnergyBlocksOf({{0, 1, 0.09}, {0, 1, 0.09}, {0, 4, 0.64}}, 2), 1000,
                                                 kIntervalRank, kIntervalRows);
  EXPECT_EQ(found.blocks, 2);
  EXPECT_EQ(found.block_tokens, 2);
  EXPECT_EQ(found.resamples, 1000);
  EXPECT_EQ(found.all.tokens, 3);
  EXPECT_EQ(found.all.resamples, 1000);
  EXPECT_NEAR(found.all.visible_cosine.value, std::sqrt(0.82 / 6), 1e-15);
  EXPECT_NEAR(found.all.visible_cosine.low, 0.3, 1e-15);
  EXPECT_NEAR(found.all.visible_cosine.high, 0.4, 1e-15);
  EXPECT_NEAR(found.all.alignment_gain.low, 0.3 / 0.25, 1e-15);
  EXPECT_NEAR(found.all.alignment_gain.high, 0.4 / 0.25, 1e-15);
  EXPECT_NEAR(found.all.lost_energy_ratio.value, 1 - 0.82 / 6, 1e-15);
  EXPECT_NEAR(found.all.lost_energy_ratio.low, 0.84, 1e-15);
  EXPECT_NEAR(found.all.lost_energy_ratio.high, 0.91, 1e-15);
  EXPECT_NEAR(found.all.lost_norm_ratio.low, std::sqrt(0.84), 1e-15);
  EXPECT_NEAR(found.all.lost_norm_ratio.high, std::sqrt(0.91), 1e-15);
  EXPECT_EQ(found.target_buckets[0].visible_cosine.low, found.all.visible_cosine.low);
  EXPECT_EQ(found.target_buckets[1].tokens, 0);
  EXPECT_EQ(found.target_buckets[1].resamples, 0);
  EXPECT_TRUE(std::isnan(found.target_buckets[1].visible_cosine.value));
}

// Returns the visible cosines of resamples, ascending, from the tokens of the drawn blocks; of one bucket if it is not
// negative. Resamples without such tokens have none.
std::vector<double> CosinesTokenByToken(const std::vector<EnergyOfToken>& tokens, size_t block_tokens,
                                        uint32_t resamples, int bucket) {
  const size_t count = (tokens.size() + block_tokens - 1) / block_tokens;
  std::vector<double> cosines;
  for (uint32_t resample = 0; resample < resamples; ++resample) {
    double energy = 0, retained = 0;
    for (size_t i = 0; i < count; ++i) {
      const uint64_t word = Philox::Words(0, RandomPurpose::kResample, resample, i / 4)[i % 4];
      const size_t block = (word * count) >> 32;
      for (size_t n = block * block_tokens; n < std::min((block + 1) * block_tokens, tokens.size()); ++n) {
        if (bucket >= 0 && tokens[n].bucket != bucket) continue;
        energy += tokens[n].energy;
        retained += tokens[n].retained;
      }
    }
    if (energy > 0) cosines.push_back(std::sqrt(retained / energy));
  }
  std::sort(cosines.begin(), cosines.end());
  return cosines;
}

TEST(ResampledIntervals, AreThoseOfResamplesMadeTokenByToken) {
  std::vector<EnergyOfToken> tokens = RandomEnergies(61);
  // The last bucket has two tokens, so that many resamples lack it.
  for (EnergyOfToken& token : tokens) token.bucket = std::min(token.bucket, 2);
  tokens[5].bucket = tokens[40].bucket = 3;
  const HeadIntervals found = ResampledIntervals(EnergyBlocksOf(tokens, 6), 300, kIntervalRank, kIntervalRows);
  for (int bucket = -1; bucket < kFrequencyBuckets; ++bucket) {
    SCOPED_TRACE(bucket);
    const std::vector<double> cosines = CosinesTokenByToken(tokens, 6, 300, bucket);
    const auto& figures = bucket < 0 ? found.all : found.target_buckets[static_cast<size_t>(bucket)];
    EXPECT_EQ(figures.resamples, static_cast<int64_t>(cosines.size()));
    EXPECT_NEAR(figures.visible_cosine.low, Percentile(cosines, 0.025), 1e-13);
    EXPECT_NEAR(figures.visible_cosine.high, Percentile(cosines, 0.975), 1e-13);
    // Other blocks have other intervals. That of two tokens reaches from one to the other in any case.
    if (bucket == 3) continue;
    const std::vector<double> others = CosinesTokenByToken(tokens, 5, 300, bucket);
    EXPECT_GT(std::abs(figures.visible_cosine.low - Percentile(others, 0.025)), 1e-6);
  }
  EXPECT_LT(found.target_buckets[3].resamples, 300);
}

// For many blocks the interval is ±1.96 standard errors of a ratio of two means.
TEST(ResampledIntervals, AreAsWideAsTheErrorOfARatio) {
  const std::vector<EnergyOfToken> tokens = RandomEnergies(900);
  const HeadIntervals found = ResampledIntervals(EnergyBlocksOf(tokens, 3), 20000, kIntervalRank, kIntervalRows);
  double energy = 0, retained = 0, squares = 0;
  for (const EnergyOfToken& token : tokens) energy += token.energy, retained += token.retained;
  for (size_t n = 0; n < tokens.size(); n += 3) {
    double rest = 0;
    for (size_t i = n; i < n + 3; ++i) rest += tokens[i].retained - tokens[i].energy * (retained / energy);
    squares += rest * rest;
  }
  const FigureInterval& lost = found.all.lost_energy_ratio;
  EXPECT_NEAR(lost.value, 1 - retained / energy, 1e-13);
  EXPECT_NEAR((lost.high - lost.low) / (2 * 1.95996 * std::sqrt(squares) / energy), 1, 0.04);
  EXPECT_NEAR((lost.high + lost.low) / 2, lost.value, 0.05 * (lost.high - lost.low));
}

TEST(ResampledIntervals, AHeadThatSpansTheVocabularyKeepsAll) {
  const HeadIntervals found = ResampledIntervals(EnergyBlocksOf(RandomEnergies(40), 5), 50, 8, 8);
  EXPECT_EQ(found.all.lost_norm_ratio.low, 0);
  EXPECT_EQ(found.all.lost_norm_ratio.high, 0);
  EXPECT_EQ(found.all.visible_cosine.low, 1);
}

}  // namespace
}  // namespace isthmus::testing
