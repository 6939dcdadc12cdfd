// Series stay small however long a run is, and keep its mean; smoothing does not shift a curve.
#include "launch/report/series.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace isthmus::report {
namespace {

constexpr double kNotANumber = std::numeric_limits<double>::quiet_NaN();

TEST(ReportSeries, KeepsEveryRecordUntilThereAreTooMany) {
  Series series;
  for (int i = 0; i < 1024; ++i) series.Add(i, 2 * i, 3 * i);
  ASSERT_EQ(series.points().size(), 1024u);
  EXPECT_EQ(series.points()[700].tokens, 700);
  EXPECT_EQ(series.points()[700].seconds, 1400);
  EXPECT_EQ(series.points()[700].value, 2100);
}

TEST(ReportSeries, IsBoundedAndKeepsMeanExtremesAndCountOfAMillionRecords) {
  Series series;
  const int count = 1000000;
  for (int i = 0; i < count; ++i) series.Add(i, i, i % 7);
  ASSERT_LE(series.points().size(), Series::kMostPoints);
  ASSERT_GE(series.points().size(), Series::kMostPoints / 2);
  double sum = 0, records = 0, previous = -1;
  for (const SeriesPoint& point : series.points()) {
    sum += point.value * static_cast<double>(point.records);
    records += static_cast<double>(point.records);
    EXPECT_GT(point.tokens, previous);
    previous = point.tokens;
    EXPECT_EQ(point.low, 0);
    EXPECT_EQ(point.high, 6);
  }
  EXPECT_EQ(records, count);
  EXPECT_NEAR(sum / count, 3, 1e-4);
  EXPECT_EQ(series.points().back().last_tokens, count - 1);
}

TEST(ReportSeries, CountsWhatIsNotFiniteAndLeavesItOut) {
  Series series;
  series.Add(1, 1, kNotANumber);
  series.Add(2, 2, std::numeric_limits<double>::infinity());
  series.Add(3, 3, 1e200);
  series.Add(4, kNotANumber, 5);
  EXPECT_EQ(series.not_finite(), 3);
  ASSERT_EQ(series.points().size(), 1u);
  EXPECT_EQ(series.Last(), 5);
  EXPECT_TRUE(std::isnan(series.points()[0].seconds));
}

TEST(ReportSeries, ForgetsWhatAResumedRunRepeats) {
  Series series;
  for (int i = 0; i < 10; ++i) series.Add(i, i, 100 + i);
  series.CutFrom(6);
  series.Add(6, 20, 7);
  ASSERT_EQ(series.points().size(), 7u);
  EXPECT_EQ(series.points()[5].value, 105);
  EXPECT_EQ(series.points()[6].value, 7);
}

TEST(ReportSeries, SmoothedStraightLineIsTheSameLine) {
  Series series;
  for (int i = 0; i < 400; ++i) series.Add(10 * i, 3 * i, 9 - 0.01 * i);
  const auto smoothed = Smooth(series.points());
  ASSERT_EQ(smoothed.size(), 400u);
  for (const SeriesPoint& point : smoothed) EXPECT_NEAR(point.value, 9 - 0.001 * point.tokens, 1e-9);
  // The last 20 of 400 records: numbers 380 to 399.
  EXPECT_NEAR(smoothed.back().tokens, 3895, 1e-9);
  EXPECT_EQ(smoothed.back().records, 20);
  EXPECT_EQ(smoothed.front().records, 1);
}

TEST(ReportSeries, MeanOfTheLastTenthIsOfWholeRecords) {
  Series series;
  EXPECT_TRUE(std::isnan(MeanOfLastPart(series, 10)));
  for (int i = 1; i <= 31; ++i) series.Add(i, i, i * i);
  // A tenth of 31 is rounded up: four records.
  EXPECT_EQ(MeanOfLastPart(series, 10), (28 * 28 + 29 * 29 + 30 * 30 + 31 * 31) / 4.0);
  EXPECT_EQ(MeanOfLastPart(series, 1000), 31 * 31);
  EXPECT_NEAR(MeanOfLastPart(series, 1), 31 * 32 * 63 / 6 / 31.0, 1e-12);
  Series longer;
  for (int i = 0; i < 100000; ++i) longer.Add(i, i, i);
  // Points of a long run stand for up to 128 records, and count as a whole.
  EXPECT_NEAR(MeanOfLastPart(longer, 10), 94999.5, 64);
}

TEST(ReportSeries, MedianOfAnEvenNumberIsBetweenTheMiddleTwo) {
  Series series;
  EXPECT_TRUE(std::isnan(MedianOf(series)));
  for (const double value : {5.0, 1.0, 100.0}) series.Add(1, 1, value);
  EXPECT_EQ(MedianOf(series), 5);
  series.Add(1, 1, 6);
  EXPECT_EQ(MedianOf(series), 5.5);
  Series longer;
  for (int i = 0; i < 100001; ++i) longer.Add(i, i, i);
  EXPECT_NEAR(MedianOf(longer), 50000, 128);
}

}  // namespace
}  // namespace isthmus::report
