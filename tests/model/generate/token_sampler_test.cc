#include "model/generate/token_sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <vector>

namespace isthmus {
namespace {

const std::vector<double> kLogits = {std::log(0.1), std::log(0.4), std::log(0.2), std::log(0.3)};

std::map<int32_t, double> Frequencies(const SamplingOptions& options, const std::vector<double>& logits = kLogits) {
  constexpr int kDraws = 40000;
  TokenSampler sampler(options);
  std::map<int32_t, double> frequency;
  for (uint64_t i = 0; i < kDraws; ++i) frequency[sampler.Choose(logits, i)] += 1.0 / kDraws;
  return frequency;
}

// These are five standard deviations of a frequency near 1/2 over 40,000 draws.
constexpr double kTolerance = 0.0125;

TEST(TokenSampler, DrawsByProbability) {
  auto frequency = Frequencies({});
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(frequency[i], std::exp(kLogits[static_cast<size_t>(i)]), kTolerance);
}

TEST(TokenSampler, TemperatureSharpensAndFlattens) {
  auto sharp = Frequencies({.temperature = 0.5});
  EXPECT_NEAR(sharp[1], 0.16 / 0.30, kTolerance);
  auto flat = Frequencies({.temperature = 1e6});
  EXPECT_NEAR(flat[0], 0.25, kTolerance);
  EXPECT_EQ(Frequencies({.temperature = 0}).size(), 1u);
}

TEST(TokenSampler, TopKKeepsTheMostProbable) {
  auto frequency = Frequencies({.top_k = 2});
  EXPECT_EQ(frequency.size(), 2u);
  EXPECT_NEAR(frequency[1], 4.0 / 7, kTolerance);
  EXPECT_NEAR(frequency[3], 3.0 / 7, kTolerance);
  EXPECT_EQ(Frequencies({.top_k = 100}).size(), 4u);
}

TEST(TokenSampler, TopPKeepsTheFewestThatReachIt) {
  EXPECT_EQ(Frequencies({.top_p = 0.39}).size(), 1u);
  EXPECT_EQ(Frequencies({.top_p = 0.41}).size(), 2u);
  auto frequency = Frequencies({.top_p = 0.8});
  EXPECT_EQ(frequency.size(), 3u);
  EXPECT_NEAR(frequency[2], 0.2 / 0.9, kTolerance);
}

TEST(TokenSampler, IsAFunctionOfSeedAndPosition) {
  TokenSampler a({.seed = 5}), b({.seed = 5}), c({.seed = 6});
  int different = 0;
  for (uint64_t i = 0; i < 100; ++i) {
    const int32_t chosen = a.Choose(kLogits, i);
    EXPECT_EQ(chosen, b.Choose(kLogits, i));
    different += chosen != c.Choose(kLogits, i);
  }
  EXPECT_GT(different, 30);
}

TEST(TokenSampler, LargeLogitsDoNotOverflowAndTiesGoToTheSmallerToken) {
  EXPECT_EQ(Frequencies({}, {1e300, -1e300, 1e300 - 1e290}).size(), 1u);
  EXPECT_EQ(TokenSampler({.temperature = 0}).Choose(std::vector<double>{1, 7, 7}, 0), 1);
}

TEST(TokenSampler, ATokenThatTheTokenizerLacksIsNeverChosen) {
  auto frequency = Frequencies({.vocabulary = 3});
  EXPECT_EQ(frequency.size(), 3u);
  EXPECT_NEAR(frequency[1], 0.4 / 0.7, kTolerance);
  EXPECT_EQ(TokenSampler({.temperature = 0, .vocabulary = 1}).Choose(kLogits, 0), 0);
  EXPECT_EQ(Frequencies({.vocabulary = 100}).size(), 4u);
}

TEST(TokenSampler, OptionsOutOfRangeAreNamed) {
  EXPECT_TRUE(CheckSamplingOptions({}).ok());
  EXPECT_FALSE(CheckSamplingOptions({.temperature = -0.1}).ok());
  EXPECT_FALSE(CheckSamplingOptions({.temperature = std::nan("")}).ok());
  EXPECT_FALSE(CheckSamplingOptions({.top_k = -1}).ok());
  EXPECT_FALSE(CheckSamplingOptions({.top_p = 0}).ok());
  EXPECT_FALSE(CheckSamplingOptions({.top_p = 1.1}).ok());
  EXPECT_FALSE(CheckSamplingOptions({.top_p = std::nan("")}).ok());
}

}  // namespace
}  // namespace isthmus
