// The expected values are SciPy's and NumPy's (tools/golden/sweep_statistics.py).
#include "launch/sweep/line_fit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace isthmus::sweep {
namespace {

using ::testing::HasSubstr;

TEST(SweepLineFit, LinesAreScipys) {
  struct Case {
    std::vector<double> x, y;
    double slope, intercept, low, high, probability, r_squared, left_out_r_squared;
  };
  for (const Case& expected : std::vector<Case>{
           {{0.991, 0.984, 0.972, 0.993, 0.965},
            {13.1, 12.9, 12.2, 13.4, 12.5},
            35.08474576271185,
            -21.598135593220327,
            2.8364625759882998,
            67.3330289494354,
            0.04057043797256008,
            0.7998394683790038,
            0.47783592636787564},
           {{1.0, 2.0, 3.0, 4.0},
            {2.0, 1.0, 4.0, 3.5},
            0.75,
            0.75,
            -1.5570405062408188,
            3.057040506240819,
            0.29678915359225677,
            0.49450549450549447,
            0.13938102713612854},
           {{-3.0, 0.5, 0.25, 8.0, 2.0, 2.0, 1.0},
            {0.1, -0.2, 0.05, 0.0, 0.3, -0.1, 0.02},
            -0.003473541383989147,
            0.029620081411126188,
            -0.057988979631986445,
            0.051041896864008146,
            0.8763122113060975,
            0.0053367257676038395,
            -0.049299782492717936},
       }) {
    SCOPED_TRACE(expected.slope);
    const auto line = FitLine(expected.x, expected.y);
    ASSERT_TRUE(line.ok()) << line.status();
    const auto close = [](double found, double wanted) { EXPECT_NEAR(found, wanted, 1e-9 * std::abs(wanted)); };
    EXPECT_EQ(line->count, static_cast<int64_t>(expected.x.size()));
    close(line->slope, expected.slope);
    close(line->intercept, expected.intercept);
    close(line->slope_interval.low, expected.low);
    close(line->slope_interval.high, expected.high);
    close(line->probability, expected.probability);
    close(line->r_squared, expected.r_squared);
    close(line->left_out_r_squared, expected.left_out_r_squared);
  }
}

TEST(SweepLineFit, PointsOnALineAreItself) {
  const auto line = FitLine({1, 2, 4, 5}, {7, 9, 13, 15});
  ASSERT_TRUE(line.ok()) << line.status();
  EXPECT_EQ(line->slope, 2);
  EXPECT_EQ(line->intercept, 5);
  EXPECT_EQ(line->probability, 0);
  EXPECT_EQ(line->left_out_r_squared, 1);
}

TEST(SweepLineFit, AskForPointsThatHaveALine) {
  const auto message = [](const std::vector<double>& x, const std::vector<double>& y, double confidence = 0.95) {
    return std::string(FitLine(x, y, confidence).status().message());
  };
  EXPECT_THAT(message({1, 2, 3}, {1, 2, 4}), HasSubstr("found 3 points; accepts 4 and more"));
  EXPECT_THAT(message({1, 2, 3, 4}, {1, 2, 4}), HasSubstr("found 4 x and 3 y"));
  EXPECT_THAT(message({1, 1, 1, 1}, {1, 2, 4, 5}), HasSubstr("the same x"));
  EXPECT_THAT(message({1, 2, 3, 4}, {2, 2, 2, 2}), HasSubstr("the same y"));
  EXPECT_THAT(message({1, 2, 3, std::nan("")}, {1, 2, 4, 5}), HasSubstr("not finite"));
  EXPECT_THAT(message({1, 2, 3, 4}, {1, 2, std::numeric_limits<double>::infinity(), 5}), HasSubstr("not finite"));
  EXPECT_THAT(message({1, 2, 3, 4}, {1, 2, 4, 5}, 1), HasSubstr("a confidence of 1"));
}

}  // namespace
}  // namespace isthmus::sweep
