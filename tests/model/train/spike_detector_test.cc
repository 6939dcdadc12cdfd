// Outliers of a series are found, whatever the series is like.
#include "model/train/spike_detector.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "runtime/philox.h"

namespace isthmus {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

double Noise(uint64_t i) { return Philox::Normal(3, RandomPurpose::kTest, 0, i); }

SpikeDetector Filled(size_t window, double value) { return SpikeDetector(window, std::vector<double>(window, value)); }

TEST(SpikeDetector, WhatIsNotANumberIsAnOutlierEvenBeforeTheWindowIsFull) {
  for (const double value : {kNaN, -kNaN, kInfinity, -kInfinity}) {
    EXPECT_EQ(SpikeDetector(8).Score(value), kInfinity);
    EXPECT_EQ(Filled(8, 2.0).Score(value), kInfinity);
  }
}

TEST(SpikeDetector, ValuesThatAreNotFiniteAreNotTakenUp) {
  SpikeDetector detector = Filled(4, 1.0);
  for (const double value : {kNaN, kInfinity, -kInfinity}) detector.Add(value);
  EXPECT_EQ(detector.values(), std::vector<double>(4, 1.0));
}

TEST(SpikeDetector, NothingIsJudgedBeforeTheWindowIsFull) {
  SpikeDetector detector(4);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(detector.Score(1e9), 0) << i;
    detector.Add(1 + 0.01 * i);
  }
  EXPECT_GT(detector.Score(1e9), 1e6);
}

TEST(SpikeDetector, ConstantValuesBearSmallChangesAndNoLargeOnes) {
  const SpikeDetector detector = Filled(16, 5.0);
  EXPECT_EQ(detector.Score(5.0), 0);
  EXPECT_LE(detector.Score(5.1), 2.001);
  EXPECT_NEAR(detector.Score(6.0), 20, 1e-9);
  EXPECT_LT(detector.Score(1.0), 0);
  // Zeros give no scale by which to judge a value.
  EXPECT_EQ(Filled(16, 0.0).Score(1e-9), kInfinity);
  EXPECT_EQ(Filled(16, 0.0).Score(0), 0);
}

TEST(SpikeDetector, TheScoreOfNormalValuesIsInTheirStandardDeviations) {
  SpikeDetector detector(1000);
  for (uint64_t i = 0; i < 1000; ++i) detector.Add(10 + 2 * Noise(i));
  EXPECT_NEAR(detector.Score(10 + 2 * 6), 6, 0.5);
  EXPECT_NEAR(detector.Score(10), 0, 0.1);
}

// A mean and a standard deviation would be moved by the first outlier, and miss the next ones.
TEST(SpikeDetector, OutliersThatWereTakenUpDoNotHideTheNext) {
  SpikeDetector detector(32);
  for (uint64_t i = 0; i < 32; ++i) detector.Add(3 + 0.1 * Noise(i));
  const double before = detector.Score(30);
  for (int i = 0; i < 8; ++i) detector.Add(30);
  EXPECT_GT(detector.Score(30), before / 3);
  EXPECT_GT(detector.Score(30), 50);
}

TEST(SpikeDetector, AFallingLossNeverStandsOut) {
  SpikeDetector detector(32);
  for (int i = 0; i < 500; ++i) {
    const double loss = 3 + 6 * std::exp(-i / 50.0) + 0.02 * Noise(static_cast<uint64_t>(i));
    EXPECT_LT(detector.Score(loss), 5) << i;
    detector.Add(loss);
  }
}

TEST(SpikeDetector, ItsValuesAreAllThatItKnows) {
  SpikeDetector whole(16);
  uint64_t i = 0;
  for (; i < 37; ++i) whole.Add(Noise(i));
  SpikeDetector copy(16, whole.values());
  for (; i < 80; ++i) {
    ASSERT_EQ(copy.Score(Noise(i)), whole.Score(Noise(i))) << i;
    whole.Add(Noise(i));
    copy.Add(Noise(i));
    ASSERT_EQ(copy.values(), whole.values()) << i;
  }
  // A longer series keeps its latest values.
  EXPECT_EQ(SpikeDetector(3, std::vector<double>{1, 2, 3, 4, 5}).values(), (std::vector<double>{3, 4, 5}));
}

}  // namespace
}  // namespace isthmus
