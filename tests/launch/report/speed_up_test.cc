// Factors worked out by hand, and the cases in which there is none.
#include "launch/report/speed_up.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

namespace isthmus::report {
namespace {

struct TokensAndLoss {
  double tokens, loss;
};

// A token takes `seconds`.
std::vector<SeriesPoint> Curve(std::vector<TokensAndLoss> points, double seconds = 1) {
  std::vector<SeriesPoint> curve;
  for (const auto& [tokens, loss] : points) {
    curve.push_back({.tokens = tokens, .seconds = tokens * seconds, .value = loss});
  }
  return curve;
}

TEST(ReportSpeedUp, IsTheRatioOfTokensAndOfTimesAtTheLossOfTheReferencesEnd) {
  const auto reference = Curve({{100, 5}, {200, 4}, {400, 3}});
  // It comes down to 3 half way between 100 and 200 tokens.
  const auto run = Curve({{100, 3.5}, {200, 2.5}}, 4);
  const SpeedUp tokens = ComputeSpeedUp(reference, run, Against::kTokens);
  EXPECT_EQ(tokens.kind, SpeedUp::Kind::kFactor);
  EXPECT_DOUBLE_EQ(tokens.factor, 400.0 / 150);
  EXPECT_DOUBLE_EQ(tokens.cautious_factor, tokens.factor);
  EXPECT_EQ(SpeedUpText(tokens), "2.67×");
  const SpeedUp time = ComputeSpeedUp(reference, run, Against::kSeconds);
  EXPECT_DOUBLE_EQ(time.factor, 400.0 / 600);
  EXPECT_EQ(SpeedUpText(time), "0.67×");
}

TEST(ReportSpeedUp, OfARunOverItselfIsOne) {
  const auto run = Curve({{100, 5}, {200, 4}, {400, 3}});
  EXPECT_DOUBLE_EQ(ComputeSpeedUp(run, run, Against::kTokens).factor, 1);
}

TEST(ReportSpeedUp, IsARangeWhereTheLossIsReachedMoreThanOnce) {
  const auto reference = Curve({{100, 5}, {600, 3}});
  // It is down at 200, up, and down again at 300.
  const SpeedUp factor =
      ComputeSpeedUp(reference, Curve({{100, 4}, {200, 3}, {250, 4}, {300, 3}, {400, 2}}), Against::kTokens);
  EXPECT_DOUBLE_EQ(factor.factor, 3);
  EXPECT_DOUBLE_EQ(factor.cautious_factor, 2);
  EXPECT_EQ(SpeedUpText(factor), "2.00–3.00×");
}

TEST(ReportSpeedUp, SaysWhenARunRoseAgainOrNeverCameThere) {
  const auto reference = Curve({{100, 5}, {600, 3}});
  EXPECT_EQ(SpeedUpText(ComputeSpeedUp(reference, Curve({{100, 4}, {200, 3}, {300, 6}}), Against::kTokens)),
            "3.00×, ends above");
  EXPECT_EQ(SpeedUpText(ComputeSpeedUp(reference, Curve({{100, 4}, {200, 3.01}}), Against::kTokens)), "not reached");
}

TEST(ReportSpeedUp, IsALowerBoundWhereTheFirstRecordIsThereAlready) {
  const auto reference = Curve({{100, 5}, {600, 3}});
  EXPECT_EQ(SpeedUpText(ComputeSpeedUp(reference, Curve({{50, 3}, {200, 2}}), Against::kTokens)), "≥ 12.0×");
}

TEST(ReportSpeedUp, CannotBeComputedFromOnePointOrWithoutTimes) {
  const auto curve = Curve({{100, 5}, {600, 3}});
  const auto timeless = Curve({{100, 5}, {600, 3}}, std::numeric_limits<double>::quiet_NaN());
  EXPECT_EQ(SpeedUpText(ComputeSpeedUp(Curve({{1, 1}}), curve, Against::kTokens)), "–");
  EXPECT_EQ(SpeedUpText(ComputeSpeedUp(curve, Curve({}), Against::kTokens)), "–");
  EXPECT_EQ(SpeedUpText(ComputeSpeedUp(curve, timeless, Against::kSeconds)), "–");
  EXPECT_EQ(SpeedUpText(ComputeSpeedUp(timeless, curve, Against::kSeconds)), "–");
  EXPECT_EQ(SpeedUpText(ComputeSpeedUp(curve, timeless, Against::kTokens)), "1.00×");
}

}  // namespace
}  // namespace isthmus::report
