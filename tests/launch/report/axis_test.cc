// Ticks are round and inside of the range, whatever the range is.
#include "launch/report/axis.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

namespace isthmus::report {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> TickTexts(const Axis& axis, int count = 5) {
  const auto ticks = axis.Ticks(count);
  std::vector<std::string> texts;
  for (const double tick : ticks) texts.push_back(axis.TickText(tick, ticks));
  return texts;
}

TEST(ReportAxis, TicksAreRound) {
  EXPECT_THAT(TickTexts(Axis(0, 2.6e6, Unit::kCount, false)),
              ElementsAre("0", "0.5 M", "1.0 M", "1.5 M", "2.0 M", "2.5 M"));
  EXPECT_THAT(TickTexts(Axis(0, 1.1e6, Unit::kCount, false)),
              ElementsAre("0", "0.2 M", "0.4 M", "0.6 M", "0.8 M", "1.0 M"));
  EXPECT_THAT(TickTexts(Axis(3.4, 8.4, Unit::kNumber, false)), ElementsAre("4", "5", "6", "7", "8"));
  EXPECT_THAT(TickTexts(Axis(0.958, 0.971, Unit::kPercent, false)),
              ElementsAre("95.8", "96.0", "96.2", "96.4", "96.6", "96.8", "97.0"));
  EXPECT_THAT(TickTexts(Axis(0, 282, Unit::kSeconds, false)), ElementsAre("0", "1", "2", "3", "4"));
  EXPECT_EQ(Axis(0, 282, Unit::kSeconds, false).UnitName(), "minutes");
  EXPECT_THAT(TickTexts(Axis(0, 90000, Unit::kSeconds, false)), ElementsAre("0", "5", "10", "15", "20", "25"));
  EXPECT_THAT(TickTexts(Axis(-0.5, 0.5, Unit::kNumber, false)), ElementsAre("-0.4", "-0.2", "0", "0.2", "0.4"));
  EXPECT_THAT(TickTexts(Axis(1, 4096, Unit::kNumber, true)), ElementsAre("1", "10", "100", "1000"));
  EXPECT_THAT(TickTexts(Axis(3, 40, Unit::kNumber, true)), ElementsAre("5", "10", "20"));
  EXPECT_THAT(TickTexts(Axis(3.4, 8.4, Unit::kNumber, true)), ElementsAre("4", "5", "6", "7", "8"));
}

TEST(ReportAxis, CountsHaveWholeTicks) {
  EXPECT_THAT(TickTexts(Axis(0, 2, Unit::kCount, false)), ElementsAre("0", "1", "2"));
  EXPECT_THAT(TickTexts(Axis(0, 4, Unit::kCount, false)), ElementsAre("0", "1", "2", "3", "4"));
}

TEST(ReportAxis, WholeNumbersKeepTheirDigits) {
  EXPECT_EQ(WholeText(1234567), "1234567");
  EXPECT_EQ(WholeText(20), "20");
  EXPECT_EQ(WholeText(0.5), "0.5000");
  EXPECT_EQ(WholeText(1e99), "1.000e+99");
  EXPECT_EQ(WholeText(std::nan("")), "–");
}

TEST(ReportAxis, OddRangesHaveFewTicksInside) {
  const double ends[] = {-1e100, -3, 0, 1e-300, 1e-12, 1, 1 + 1e-15, 1e9, 1e9 + 1, 1e100};
  for (const double a : ends) {
    for (const double b : ends) {
      for (const bool logarithmic : {false, true}) {
        const Axis axis(a, b, Unit::kNumber, logarithmic);
        EXPECT_LT(axis.low(), axis.high());
        const auto ticks = axis.Ticks(5);
        EXPECT_LE(ticks.size(), 20u) << a << " " << b;
        for (const double tick : ticks) {
          EXPECT_GE(axis.Place(tick), -1e-6) << a << " " << b;
          EXPECT_LE(axis.Place(tick), 1 + 1e-6) << a << " " << b;
          EXPECT_LE(axis.TickText(tick, ticks).size(), 14u);
        }
      }
    }
  }
}

TEST(ReportAxis, PlaceAndValueAreEachOthersInverse) {
  for (const bool logarithmic : {false, true}) {
    const Axis axis(3, 90, Unit::kNumber, logarithmic);
    EXPECT_NEAR(axis.Place(3), 0, 1e-12);
    EXPECT_NEAR(axis.Place(90), 1, 1e-12);
    EXPECT_NEAR(axis.ValueAt(axis.Place(17)), 17, 1e-9);
  }
}

TEST(ReportAxis, ValuesHaveFourDigitsAndTheirUnit) {
  EXPECT_EQ(ValueText(4.3, Unit::kNumber), "4.300");
  EXPECT_EQ(ValueText(32, Unit::kNumber), "32");
  EXPECT_EQ(ValueText(0.968, Unit::kPercent), "96.80 %");
  EXPECT_EQ(ValueText(2.6e6, Unit::kCount), "2.600 M");
  EXPECT_EQ(ValueText(282.5, Unit::kSeconds), "4.708 min");
  EXPECT_EQ(ValueText(0.0421, Unit::kSeconds), "42.10 ms");
  EXPECT_EQ(ValueText(1e-7, Unit::kNumber), "1.000e-07");
  EXPECT_EQ(ValueText(std::nan(""), Unit::kCount), "–");
}

}  // namespace
}  // namespace isthmus::report
