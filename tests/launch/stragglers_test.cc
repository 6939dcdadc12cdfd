// Finds ranks that are slow, from the work of all.
#include "launch/watch/stragglers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "launch/watch/same_start.h"

namespace isthmus::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Seconds of a step in forward and in all; the other phases take no time.
Stragglers::Work WorkOf(float forward, float all) {
  Stragglers::Work work{};
  work[1] = forward;
  work[7] = all;
  return work;
}

TEST(Stragglers, CompareEachRankWithTheMedianByPhase) {
  Stragglers stragglers;
  proto::TelemetryRecord record;
  const std::vector<Stragglers::Work> work = {WorkOf(0.1F, 1), WorkOf(0.1F, 1), WorkOf(0.3F, 2), WorkOf(0.05F, 1)};
  EXPECT_THAT(stragglers.Compare(work, record), IsEmpty()) << "once is not persistent";
  ASSERT_EQ(record.stragglers_size(), 8);
  EXPECT_EQ(record.stragglers(0).phase(), "forward");
  EXPECT_EQ(record.stragglers(0).rank(), 2);
  EXPECT_NEAR(record.stragglers(0).slowdown_ratio(), 3, 1e-5);
  EXPECT_NEAR(record.stragglers(0).compute_seconds(), 0.3, 1e-6);
  EXPECT_EQ(record.stragglers(3).rank(), 3);
  EXPECT_NEAR(record.stragglers(3).slowdown_ratio(), 0.5, 1e-5);
  EXPECT_EQ(record.stragglers(4).phase(), "compute");
  EXPECT_EQ(record.stragglers(4).rank(), 2);
  EXPECT_NEAR(record.stragglers(4).slowdown_ratio(), 2, 1e-5);
}

TEST(Stragglers, OfTwoRanksTheFasterIsTheMeasure) {
  Stragglers stragglers;
  proto::TelemetryRecord record;
  stragglers.Compare(std::vector<Stragglers::Work>{WorkOf(4, 4), WorkOf(2, 2)}, record);
  EXPECT_EQ(record.stragglers(0).rank(), 0);
  EXPECT_NEAR(record.stragglers(0).slowdown_ratio(), 2, 1e-6);
  EXPECT_NEAR(record.stragglers(1).slowdown_ratio(), 1, 1e-6);
}

TEST(Stragglers, ARankThatIsSlowThreeTimesInARowIsNamedOnceAndAgainWhenItIsOver) {
  Stragglers stragglers;
  proto::TelemetryRecord record;
  const std::vector<Stragglers::Work> slow = {WorkOf(0, 1), WorkOf(0, 1), WorkOf(0, 1.4F)};
  const std::vector<Stragglers::Work> well = {WorkOf(0, 1), WorkOf(0, 1), WorkOf(0, 1.2F)};
  EXPECT_THAT(stragglers.Compare(slow, record), IsEmpty());
  EXPECT_THAT(stragglers.Compare(slow, record), IsEmpty());
  EXPECT_THAT(stragglers.Compare(well, record), IsEmpty()) << "the row is broken";
  EXPECT_THAT(stragglers.Compare(slow, record), IsEmpty());
  EXPECT_THAT(stragglers.Compare(slow, record), IsEmpty());
  EXPECT_THAT(stragglers.Compare(slow, record),
              ElementsAre(HasSubstr("rank 2 is slow: its own work takes 1.4000 s a step, 1.40 times as long as the")));
  EXPECT_THAT(stragglers.Compare(slow, record), IsEmpty());
  EXPECT_THAT(stragglers.Compare(well, record), ElementsAre("rank 2 is no longer slow"));
  EXPECT_THAT(stragglers.Compare(well, record), IsEmpty());
}

TEST(Stragglers, MicrosecondsAreNothingToWarnOf) {
  Stragglers stragglers;
  proto::TelemetryRecord record;
  const std::vector<Stragglers::Work> work = {WorkOf(1e-5F, 2e-4F), WorkOf(3e-5F, 9e-4F)};
  for (int i = 0; i < 5; ++i) EXPECT_THAT(stragglers.Compare(work, record), IsEmpty());
  for (const auto& straggler : record.stragglers()) EXPECT_EQ(straggler.phase(), "compute");
}

TEST(Stragglers, OfManyRanksTheSlowestAreListed) {
  Stragglers stragglers;
  proto::TelemetryRecord record;
  std::vector<Stragglers::Work> work;
  for (int rank = 0; rank < 1000; ++rank) work.push_back(WorkOf(0, 1 + static_cast<float>(rank) / 1000));
  stragglers.Compare(work, record);
  ASSERT_EQ(record.stragglers_size(), 8);
  EXPECT_EQ(record.stragglers(0).rank(), 999);
  EXPECT_EQ(record.stragglers(7).rank(), 992);
}

TEST(SameStart, TheRankThatDiffersFromMostIsNamedWithBoth) {
  EXPECT_TRUE(CheckAlike({"a", "a", "a"}, "build", "x").ok());
  const absl::Status other = CheckAlike({"b", "a", "a"}, "build", "install it everywhere");
  EXPECT_EQ(other.message(), "rank 0 has another build: b; rank 1 has: a; install it everywhere");
  EXPECT_TRUE(absl::IsFailedPrecondition(other));
  // If only two ranks differ, the higher one is named.
  EXPECT_THAT(std::string(CheckAlike({"a", "b"}, "build", "x").message()), HasSubstr("rank 1 has another build: b;"));
  EXPECT_THAT(std::string(CheckAlike({"a", "b", "a", "c", "a"}, "build", "x").message()),
              HasSubstr("ranks 1, 3 have another build: b;"));
}

TEST(SameStart, WhatARankDoesNotKnowIsNoDifference) {
  EXPECT_TRUE(CheckAlike({"a", "", "a"}, "file", "x").ok());
  EXPECT_TRUE(CheckAlike({"", ""}, "file", "x").ok());
  EXPECT_FALSE(CheckAlike({"a", "", "b"}, "file", "x").ok());
}

TEST(SameStart, ManyRanksAreCounted) {
  std::vector<std::string> found(100, "a");
  for (size_t rank = 50; rank < 70; ++rank) found[rank] = "b";
  EXPECT_THAT(std::string(CheckAlike(found, "build", "x").message()),
              HasSubstr("ranks 50, 51, 52, 53, 54, 55, 56, 57 and 12 more have another build"));
}

}  // namespace
}  // namespace isthmus::testing
