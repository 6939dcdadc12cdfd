#include "runtime/philox.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/paths.h"

namespace isthmus {
namespace {

constexpr uint64_t kSeed = 0x123456789abcdef0u;

// A counter and a key as published are arguments of Words: index is the low half of the counter, then stream and
// purpose.
std::array<uint32_t, 4> WordsOf(const std::array<uint32_t, 4>& counter, const std::array<uint32_t, 2>& key) {
  return Philox::Words(uint64_t{key[1]} << 32 | key[0], static_cast<RandomPurpose>(counter[3]), counter[2],
                       uint64_t{counter[1]} << 32 | counter[0]);
}

// Known answers: the three published with Random123 (kat_vectors, philox4x32 10), and more from an independent
// implementation (tools/golden/philox.py).
std::vector<nlohmann::json> KnownAnswers() {
  std::ifstream file(testing::SourceFolder() + "/tests/golden/philox.json");
  return nlohmann::json::parse(file).at("answers").get<std::vector<nlohmann::json>>();
}

TEST(Philox, MatchesPublishedAndIndependentlyComputedWords) {
  const auto answers = KnownAnswers();
  ASSERT_GE(answers.size(), 10u);
  for (const auto& answer : answers) {
    const auto words = WordsOf(answer.at("counter"), answer.at("key"));
    const std::array<uint32_t, 4> expected = answer.at("words");
    EXPECT_EQ(words, expected) << answer;
    std::array<uint32_t, 4> wrong_counter = answer.at("counter");
    wrong_counter[0] ^= 1u;
    EXPECT_NE(WordsOf(wrong_counter, answer.at("key")), expected) << answer;
  }
}

TEST(Philox, IsAConstantExpression) {
  static_assert(Philox::Words(0, static_cast<RandomPurpose>(0), 0, 0)[0] == 0x6627e8d5u);
  static_assert(Philox::Uniform(1, RandomPurpose::kTest, 0, 0) < 1.0);
}

TEST(Philox, EveryArgumentChangesTheWords) {
  std::set<std::array<uint32_t, 4>> seen;
  int drawn = 0;
  for (const uint64_t seed : {uint64_t{0}, uint64_t{1}, uint64_t{1} << 32}) {
    for (const auto purpose : {RandomPurpose::kInitialWeights, RandomPurpose::kSampleOrder, RandomPurpose::kTest}) {
      for (const uint32_t stream : {0u, 1u, 0x80000000u}) {
        for (const uint64_t index : {uint64_t{0}, uint64_t{1}, uint64_t{1} << 32, uint64_t{1} << 63}) {
          seen.insert(Philox::Words(seed, purpose, stream, index));
          ++drawn;
        }
      }
    }
  }
  EXPECT_EQ(seen.size(), static_cast<size_t>(drawn));
}

TEST(Philox, AnElementDoesNotDependOnWhatWasDrawnBefore) {
  constexpr int64_t kCount = 257;
  std::vector<double> forward(kCount), backward(kCount);
  for (int64_t i = 0; i < kCount; ++i) forward[i] = Philox::Normal(kSeed, RandomPurpose::kTest, 7, i);
  for (int64_t i = kCount - 1; i >= 0; --i) {
    (void)Philox::Uniform(kSeed, RandomPurpose::kDropout, 7, i);
    backward[i] = Philox::Normal(kSeed, RandomPurpose::kTest, 7, i);
  }
  EXPECT_EQ(forward, backward);
}

// Standardised moments of a sample. Bounds in the tests are five standard errors of the moment of `kMomentCount` draws.
struct Moments {
  double mean = 0, variance = 0, skewness = 0, kurtosis = 0;
};
constexpr int64_t kMomentCount = 200'000;

template <typename Draw>
Moments MomentsOf(Draw draw) {
  Moments moments;
  for (int64_t i = 0; i < kMomentCount; ++i) moments.mean += draw(i) / kMomentCount;
  double second = 0, third = 0, fourth = 0;
  for (int64_t i = 0; i < kMomentCount; ++i) {
    const double deviation = draw(i) - moments.mean;
    second += deviation * deviation / kMomentCount;
    third += deviation * deviation * deviation / kMomentCount;
    fourth += deviation * deviation * deviation * deviation / kMomentCount;
  }
  moments.variance = second;
  moments.skewness = third / std::pow(second, 1.5);
  moments.kurtosis = fourth / (second * second);
  return moments;
}

bool LooksStandardNormal(const Moments& moments) {
  const double root = std::sqrt(static_cast<double>(kMomentCount));
  return std::abs(moments.mean) < 5 / root && std::abs(moments.variance - 1) < 5 * std::sqrt(2.0) / root &&
         std::abs(moments.skewness) < 5 * std::sqrt(6.0) / root &&
         std::abs(moments.kurtosis - 3) < 5 * std::sqrt(24.0) / root;
}

TEST(Philox, NormalHasTheMomentsOfTheStandardNormal) {
  const auto draw = [](int64_t i) { return Philox::Normal(kSeed, RandomPurpose::kTest, 3, i); };
  const Moments moments = MomentsOf(draw);
  EXPECT_TRUE(LooksStandardNormal(moments))
      << moments.mean << " " << moments.variance << " " << moments.skewness << " " << moments.kurtosis;
  EXPECT_FALSE(LooksStandardNormal(MomentsOf([&](int64_t i) { return draw(i) + 0.02; })));
  EXPECT_FALSE(LooksStandardNormal(MomentsOf([&](int64_t i) { return 1.02 * draw(i); })));
  EXPECT_FALSE(LooksStandardNormal(MomentsOf([&](int64_t i) { return std::clamp(draw(i), -2.5, 2.5); })));
}

TEST(Philox, NormalHasItsTailsAndNeverLeavesTheRangeOfBoxMuller) {
  int64_t beyond_two = 0, beyond_three = 0;
  for (int64_t i = 0; i < kMomentCount; ++i) {
    const double magnitude = std::abs(Philox::Normal(kSeed, RandomPurpose::kTest, 4, i));
    ASSERT_LT(magnitude, 8.58);  // sqrt(-2 log 2^-53)
    beyond_two += magnitude > 2;
    beyond_three += magnitude > 3;
  }
  // erfc(k / sqrt(2)) of the draws, within five standard deviations of a binomial count.
  for (const auto& [count, bound] : {std::pair{beyond_two, 2.0}, std::pair{beyond_three, 3.0}}) {
    const double expected = kMomentCount * std::erfc(bound / std::sqrt(2.0));
    EXPECT_NEAR(static_cast<double>(count), expected, 5 * std::sqrt(expected)) << bound;
  }
}

TEST(Philox, UniformFillsTheUnitIntervalEvenly) {
  constexpr int kBins = 64;
  std::array<int64_t, kBins> bins{};
  for (int64_t i = 0; i < kMomentCount; ++i) {
    const double u = Philox::Uniform(kSeed, RandomPurpose::kTest, 5, i);
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    ++bins[static_cast<size_t>(u * kBins)];
  }
  double chi_squared = 0;
  constexpr double kExpected = static_cast<double>(kMomentCount) / kBins;
  for (const int64_t count : bins) chi_squared += (count - kExpected) * (count - kExpected) / kExpected;
  // Mean 63, standard deviation sqrt(2·63) = 11.2; both tails, since bins that are too even are no random numbers.
  EXPECT_LT(chi_squared, 63 + 5 * 11.2);
  EXPECT_GT(chi_squared, 63 - 4 * 11.2);
}

TEST(Philox, NeighboursInIndexAndStreamAreUncorrelated) {
  double by_index = 0, by_stream = 0, by_seed = 0;
  for (int64_t i = 0; i < kMomentCount; ++i) {
    const double x = Philox::Normal(kSeed, RandomPurpose::kTest, 8, i);
    by_index += x * Philox::Normal(kSeed, RandomPurpose::kTest, 8, i + 1) / kMomentCount;
    by_stream += x * Philox::Normal(kSeed, RandomPurpose::kTest, 9, i) / kMomentCount;
    by_seed += x * Philox::Normal(kSeed + 1, RandomPurpose::kTest, 8, i) / kMomentCount;
  }
  const double bound = 5 / std::sqrt(static_cast<double>(kMomentCount));
  EXPECT_LT(std::abs(by_index), bound);
  EXPECT_LT(std::abs(by_stream), bound);
  EXPECT_LT(std::abs(by_seed), bound);
}

}  // namespace
}  // namespace isthmus
