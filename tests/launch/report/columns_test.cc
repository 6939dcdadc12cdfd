// A column is as high as its share, and a mark stands where its value lies between the bounds.
#include "launch/report/columns.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/markup.h"

namespace isthmus::report {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// Half of the values lie up to 2, none between 2 and 8, and half above.
Columns SplitInTwo(double mark) {
  return {.title = "Gaps <a>",
          .x_title = "steps",
          .note = "",
          .style = 3,
          .counts = {.bounds = {2, 8}, .counts = {7, 0, 7}},
          .highest_share = 0.5,
          .mark = mark,
          .mark_name = "here"};
}

TEST(ReportColumns, AreAsHighAsTheirShares) {
  const std::string html = ColumnsHtml(SplitInTwo(4));
  EXPECT_EQ(testing::WrongMarkup(html), "");
  // The axis ends a fifth above the highest share.
  EXPECT_THAT(html,
              HasSubstr("<rect x=\"0.00%\" y=\"16.67%\" width=\"33.33%\" height=\"83.33%\"><title>up to 2: 50 %"));
  EXPECT_THAT(html,
              HasSubstr("<rect x=\"66.67%\" y=\"16.67%\" width=\"33.33%\" height=\"83.33%\"><title>above 8: 50 %"));
  EXPECT_THAT(html, Not(HasSubstr("<title>2 to 8")));
  EXPECT_THAT(html, HasSubstr("<th scope=\"row\">2 to 8</th><td>0 %</td>"));
}

TEST(ReportColumns, MarkStandsBetweenItsBounds) {
  // 4 is half of the way from 2 to 8 on a logarithmic scale.
  EXPECT_THAT(ColumnsHtml(SplitInTwo(4)), HasSubstr("<line class=\"mark\" x1=\"50.00%\" x2=\"50.00%\""));
  EXPECT_THAT(ColumnsHtml(SplitInTwo(8)), HasSubstr("<line class=\"mark\" x1=\"66.67%\" x2=\"66.67%\""));
  for (const double beyond : {1.0, 9.0, 0.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
    EXPECT_THAT(ColumnsHtml(SplitInTwo(beyond)), Not(HasSubstr("class=\"mark\""))) << beyond;
  }
}

TEST(ReportColumns, OnlyHistogramsAreDrawn) {
  EXPECT_TRUE(IsHistogram({.bounds = {1, 2}, .counts = {0, 0, 1}}));
  EXPECT_EQ(HighestShare({.bounds = {1, 2}, .counts = {1, 6, 1}}), 0.75);
  const Counts others[] = {{{}, {1}},
                           {{1, 1}, {1, 2, 3}},
                           {{0, 1}, {1, 2, 3}},
                           {{1, 2}, {1, 2}},
                           {{1, 2}, {0, 0, 0}},
                           {{1, 2}, {-1, 2, 3}},
                           {{1, 1e300}, {1, 2, 3}},
                           {{1, 2}, {1, std::nan(""), 3}},
                           {{std::nan("")}, {1, 2}}};
  for (const Counts& other : others) EXPECT_FALSE(IsHistogram(other));
}

}  // namespace
}  // namespace isthmus::report
