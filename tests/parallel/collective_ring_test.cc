// Tests the ring in which a rank remembers its collectives, and the time that a wait has lasted.
#include "parallel/collective_ring.h"

#include <gtest/gtest.h>

#include "parallel/wait_clock.h"

namespace isthmus::testing {
namespace {

TEST(CollectiveRing, KeepsTheLatestWithStepPhaseAndTimes) {
  CollectiveRing ring;
  const int world = ring.AddGroup("world", 0, 4), tensor = ring.AddGroup("tensor", 2, 2);
  ring.whereabouts().set_step(7);
  ring.whereabouts().Enter("forward");
  const int64_t first = ring.Start(tensor, 0, "all_reduce", 400);
  ring.whereabouts().Enter("reduce");
  ring.Start(world, 0, "broadcast", 8);
  ring.End(first);
  const auto entries = ring.entries();
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0].group, tensor);
  EXPECT_STREQ(entries[0].operation, "all_reduce");
  EXPECT_EQ(entries[0].bytes, 400);
  EXPECT_EQ(entries[0].place.step, 7);
  EXPECT_STREQ(entries[0].place.phase, "forward");
  EXPECT_GE(entries[0].end, entries[0].start);
  EXPECT_GT(entries[0].start, int64_t{1'700'000'000'000'000'000});
  EXPECT_STREQ(entries[1].place.phase, "reduce");
  EXPECT_EQ(entries[1].end, 0) << "has not ended";

  constexpr int64_t kMore = 1000;
  for (int64_t i = 1; i <= kMore; ++i) ring.End(ring.Start(world, i, "barrier", 0));
  const auto latest = ring.entries();
  ASSERT_EQ(latest.size(), CollectiveRing::kLength);
  EXPECT_EQ(latest.back().sequence, kMore);
  EXPECT_EQ(latest.front().sequence, kMore - static_cast<int64_t>(CollectiveRing::kLength) + 1);
  EXPECT_EQ(ring.groups()[static_cast<size_t>(world)].started, kMore);
  EXPECT_EQ(ring.groups()[static_cast<size_t>(tensor)].started, 0);
}

TEST(CollectiveRing, AnEndThatComesLateTouchesNoOtherEntry) {
  CollectiveRing ring;
  const int world = ring.AddGroup("world", 0, 2);
  const int64_t first = ring.Start(world, 0, "all_reduce", 4);
  for (size_t i = 1; i <= CollectiveRing::kLength; ++i) ring.Start(world, static_cast<int64_t>(i), "all_gather", 4);
  ring.End(first);
  for (const CollectiveEntry& entry : ring.entries()) EXPECT_EQ(entry.end, 0) << entry.sequence;
}

TEST(CollectiveRing, TellsWhatIsWaitedForUntilItEnds) {
  CollectiveRing ring;
  const int data = ring.AddGroup("data", 1, 2);
  EXPECT_FALSE(ring.waiting().has_value());
  const int64_t bucket = ring.Start(data, 0, "all_reduce", 64), other = ring.Start(data, 1, "all_reduce", 32);
  ring.whereabouts().Enter("reduce");
  ring.Wait(bucket);
  ring.whereabouts().Enter("ending");
  ring.End(other);
  ASSERT_TRUE(ring.waiting().has_value());
  EXPECT_STREQ(ring.waiting()->place.phase, "reduce") << "where it is waited for";
  EXPECT_EQ(ring.waiting()->sequence, 0);
  EXPECT_EQ(ring.waiting()->bytes, 64);
  ring.End(bucket);
  EXPECT_FALSE(ring.waiting().has_value());
}

TEST(CollectiveRing, OperationsOfAGpuEndInOrder) {
  CollectiveRing ring;
  const int world = ring.AddGroup("world", 0, 2), data = ring.AddGroup("data by NCCL", 0, 2);
  ring.Start(world, 0, "barrier", 0);
  for (int64_t i = 0; i < 3; ++i) ring.Start(data, i, "all_reduce", 16);
  ring.EndBefore(data, 2);
  const auto entries = ring.entries();
  EXPECT_EQ(entries[0].end, 0) << "of another group";
  EXPECT_GT(entries[1].end, 0);
  EXPECT_GT(entries[2].end, 0);
  EXPECT_EQ(entries[3].end, 0);
  ring.Wait(data, 2);
  EXPECT_EQ(ring.waiting()->bytes, 16);
}

TEST(CollectiveRing, MessagesAreNoCollectivesOfTheGroup) {
  CollectiveRing ring;
  const int world = ring.AddGroup("world", 0, 3);
  ring.Start(world, 5, "barrier", 0);
  ring.Wait(ring.StartMessage(world, 2, "receive from", 8));
  EXPECT_EQ(ring.groups()[0].started, 5);
  EXPECT_EQ(ring.waiting()->peer, 2);
}

TEST(CollectiveRing, AGroupThatIsMadeAgainStartsAgain) {
  CollectiveRing ring;
  const int first = ring.AddGroup("tensor", 0, 2);
  ring.Start(first, 9, "all_reduce", 4);
  EXPECT_EQ(ring.AddGroup("tensor", 2, 2), 1);
  EXPECT_EQ(ring.AddGroup("tensor", 0, 2), first);
  EXPECT_EQ(ring.groups()[0].started, -1);
}

TEST(Whereabouts, AddUpWaitsByPhase) {
  Whereabouts whereabouts;
  whereabouts.Enter("forward");
  whereabouts.AddWait(0.25);
  whereabouts.Enter("backward");
  whereabouts.AddWait(1);
  whereabouts.AddWait(2);
  EXPECT_EQ(whereabouts.TakeWait("backward"), 3);
  EXPECT_EQ(whereabouts.TakeWait("backward"), 0);
  EXPECT_EQ(whereabouts.TakeWait("forward"), 0.25);
  EXPECT_EQ(whereabouts.TakeWait("head"), 0);
}

TEST(WaitClock, TimeInWhichTheProcessWasStoppedDoesNotCount) {
  const absl::Duration start = absl::Seconds(1000);
  WaitClock clock(start);
  EXPECT_EQ(clock.Elapsed(start + absl::Seconds(1)), absl::Seconds(1));
  EXPECT_EQ(clock.Elapsed(start + absl::Seconds(500)), absl::Seconds(1)) << "stopped";
  EXPECT_EQ(clock.Elapsed(start + absl::Seconds(501)), absl::Seconds(2));
}

}  // namespace
}  // namespace isthmus::testing
