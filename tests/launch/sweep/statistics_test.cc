// The expected values are SciPy's (tools/golden/sweep_statistics.py).
#include "launch/sweep/statistics.h"

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/types/span.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace isthmus::sweep {
namespace {

using ::testing::HasSubstr;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
const std::vector<double> kTwo = {0.013, -0.004};
const std::vector<double> kThree = {3.2411, 3.2398, 3.2457};
const std::vector<double> kFive = {-0.0213, -0.0187, 0.0042, -0.0305, -0.0111};
const std::vector<double> kSix = {1.0, 1.0, 2.0, 3.5, -2.25, 1.0};

void ExpectClose(double found, double expected) { EXPECT_NEAR(found, expected, 1e-9 * std::abs(expected)); }

TEST(SweepStatistics, QuantilesAreStudents) {
  struct Case {
    double probability, degrees, quantile;
  };
  for (const Case& expected : std::vector<Case>{
           {0.975, 1, 12.706204736174694},
           {0.975, 2, 4.302652729749462},
           {0.975, 4, 2.7764451051977934},
           {0.95, 9, 1.833112932656237},
           {0.995, 30, 2.7499956535672254},
           {0.025, 4, -2.7764451051977943},
           {0.6, 3, 0.2766706623326898},
           {0.9999, 2, 70.70007107496818},
       }) {
    SCOPED_TRACE(expected.probability);
    ExpectClose(StudentQuantile(expected.probability, expected.degrees), expected.quantile);
  }
  EXPECT_EQ(StudentQuantile(0.5, 3), 0);
}

TEST(SweepStatistics, ProbabilitiesAreStudents) {
  struct Case {
    double t, degrees, probability;
  };
  for (const Case& expected : std::vector<Case>{
           {0.0, 3, 1.0},
           {0.5, 1, 0.7048327646991335},
           {-2.2, 4, 0.09265267017963459},
           {7.5, 2, 0.017317326879372444},
           {40.0, 5, 1.8411962171772954e-07},
           {0.0001, 12, 0.9999218547390966},
       }) {
    SCOPED_TRACE(expected.t);
    ExpectClose(StudentTwoSided(expected.t, expected.degrees), expected.probability);
  }
}

TEST(SweepStatistics, EstimatesAreScipys) {
  struct Case {
    std::vector<double> values;
    double confidence, mean, deviation, student_low, student_high, bootstrap_low, bootstrap_high, probability;
  };
  for (const Case& expected : std::vector<Case>{
           {kTwo, 0.95, 0.0045, 0.012020815280171309, -0.1035027402574849, 0.11250274025748491, -0.0033624999999999996,
            0.012362499999999998, 0.6900303218783597},
           {kTwo, 0.8, 0.0045, 0.012020815280171309, -0.021660310065989664, 0.030660310065989665,
            -0.0014500000000000003, 0.010450000000000001, 0.6900303218783597},
           {kThree, 0.95, 3.2422, 0.003099999999999995, 3.234499173093574, 3.249900826906426, 3.2400816666666663,
            3.2447033333333333, 3.047349958146653e-07},
           {kThree, 0.8, 3.2422, 0.003099999999999995, 3.2388251474654988, 3.245574852534501, 3.2402333333333337,
            3.2441666666666666, 3.047349958146653e-07},
           {kFive, 0.95, -0.015479999999999999, 0.013003153463679494, -0.031625547518969406, 0.0006655475189694064,
            -0.02478, -0.004960000000000001, 0.05627320426534918},
           {kFive, 0.8, -0.015479999999999999, 0.013003153463679494, -0.0243958812136634, -0.006564118786336599,
            -0.0221, -0.00854, 0.05627320426534918},
           {kSix, 0.95, 1.0416666666666667, 1.8869066396265255, -0.9385204101137776, 3.021853743447111,
            -0.4583333333333333, 2.3333333333333335, 0.2342400860776368},
           {kSix, 0.8, 1.0416666666666667, 1.8869066396265255, -0.09524579408181699, 2.1785791274151505,
            0.08333333333333333, 1.9166666666666667, 0.2342400860776368},
       }) {
    const auto found = EstimateMean(expected.values, expected.confidence);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(found->count, static_cast<int64_t>(expected.values.size()));
    ExpectClose(found->mean, expected.mean);
    ExpectClose(found->deviation, expected.deviation);
    ExpectClose(found->student.low, expected.student_low);
    ExpectClose(found->student.high, expected.student_high);
    ExpectClose(found->bootstrap.low, expected.bootstrap_low);
    ExpectClose(found->bootstrap.high, expected.bootstrap_high);
    ExpectClose(found->probability, expected.probability);
  }
}

// All resamples are enumerated without their order up to 12 values, and drawn above.
TEST(SweepStatistics, IntervalsOfManyValuesAreNearStudents) {
  for (const int count : {12, 13, 60}) {
    std::vector<double> values;
    for (int i = 0; i < count; ++i) values.push_back(std::sin(7.3 * i) + 0.2);
    const auto found = EstimateMean(values);
    ASSERT_TRUE(found.ok()) << found.status();
    const double width = found->student.high - found->student.low;
    EXPECT_NEAR(found->bootstrap.low, found->student.low, 0.12 * width) << count;
    EXPECT_NEAR(found->bootstrap.high, found->student.high, 0.12 * width) << count;
    EXPECT_EQ(found->bootstrap.low, EstimateMean(values)->bootstrap.low);
  }
}

TEST(SweepStatistics, DifferencesAreBySeed) {
  const std::vector<double> first = {3.1, 2.9, 3.3}, second = {3.0, 2.8, 3.2};
  const auto found = EstimateDifference(first, second);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_NEAR(found->mean, 0.1, 1e-12);
  EXPECT_LT(found->deviation, 1e-12);  // all that the seeds change falls out
  EXPECT_TRUE(found->student.Excludes(0));
  EXPECT_FALSE(EstimateMean(kTwo)->student.Excludes(0));
  EXPECT_TRUE((Interval{1, 2}).Excludes(0.5) && (Interval{1, 2}).Excludes(2.5));
  EXPECT_FALSE((Interval{1, 2}).Excludes(1) || (Interval{1, 2}).Excludes(2));
}

TEST(SweepStatistics, OfEqualValuesHaveNoWidth) {
  const auto zeros = EstimateMean({0.0, 0.0, 0.0}), ones = EstimateMean({1.0, 1.0});
  ASSERT_TRUE(zeros.ok() && ones.ok());
  EXPECT_EQ(zeros->probability, 1);
  EXPECT_EQ(zeros->student.low, 0);
  EXPECT_EQ(ones->probability, 0);
  EXPECT_EQ(ones->bootstrap.high, 1);
}

TEST(SweepStatistics, OfTooFewOrWrongValuesAreRefused) {
  const auto message = [](const auto& result) { return std::string(result.status().message()); };
  EXPECT_THAT(message(EstimateMean({1.0})), HasSubstr("an interval of 1 values: accepts two and more"));
  EXPECT_THAT(message(EstimateMean({1.0, kInfinity})), HasSubstr("accepts finite ones"));
  EXPECT_THAT(message(EstimateMean({1.0, 2.0}, 1)), HasSubstr("accepts values between 0 and 1"));
  EXPECT_THAT(message(EstimateDifference({1.0, 2.0}, {1.0})), HasSubstr("a paired difference of 2 and 1 values"));
}

TEST(BestRate, IsThatOfTheGridWithItsParabola) {
  struct Case {
    RatedLoss lower, middle, higher;
    double rate, loss;
  };
  for (const Case& expected : std::vector<Case>{
           {{0.001, 4.1}, {0.003, 3.9}, {0.01, 4.3}, 0.0026034732506901807, 3.8955112193350745},
           {{0.0002, 3.52}, {0.001, 3.41}, {0.002, 3.44}, 0.0009050081326012196, 3.409517034492365},
       }) {
    // Rates beyond the neighbours of the best one are no points of the parabola.
    const std::vector<RatedLoss> grid = {expected.higher, {1, kInfinity}, expected.lower, expected.middle, {1e-5, 9}};
    const auto found = FindBestRate(grid);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_TRUE(found->inside);
    EXPECT_EQ(found->rate, expected.middle.rate);
    EXPECT_EQ(found->loss, expected.middle.loss);
    ExpectClose(found->parabola_rate, expected.rate);
    ExpectClose(found->parabola_loss, expected.loss);
  }
}

TEST(BestRate, AtTheEndOfItsGridIsNotInside) {
  for (const std::vector<RatedLoss>& grid : std::vector<std::vector<RatedLoss>>{
           {{1e-3, 3}, {1e-2, 4}}, {{1e-3, 4}, {1e-2, 3}}, {{1e-3, 3}}, {{1e-3, std::nan("")}, {1e-2, 3}}}) {
    const auto found = FindBestRate(grid);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_FALSE(found->inside);
    EXPECT_EQ(found->loss, 3);
    EXPECT_EQ(found->parabola_rate, found->rate);
    EXPECT_EQ(found->parabola_loss, 3);
  }
}

// A run that diverged at a higher rate shows that the best one is inside, and gives no parabola.
TEST(BestRate, MayHaveANeighbourThatDiverged) {
  const auto found = FindBestRate({{1e-3, 4}, {3e-3, 3}, {1e-2, std::nan("")}});
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_TRUE(found->inside);
  EXPECT_EQ(found->parabola_rate, 3e-3);
}

TEST(BestRate, OfAWrongGridIsRefused) {
  const auto message = [](const auto& result) { return std::string(result.status().message()); };
  EXPECT_THAT(message(FindBestRate({})), HasSubstr("accepts one and more with a finite loss"));
  EXPECT_THAT(message(FindBestRate({{1e-3, std::nan("")}})), HasSubstr("accepts one and more with a finite loss"));
  EXPECT_THAT(message(FindBestRate({{0, 3}})), HasSubstr("a learning rate of 0"));
  EXPECT_THAT(message(FindBestRate({{1e-3, 3}, {1e-3, 4}})), HasSubstr("0.001 twice"));
}

}  // namespace
}  // namespace isthmus::sweep
