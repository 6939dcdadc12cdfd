// Tests when NCCL's operations are late, and how its communicators end. The test needs no NCCL: clock and calls are its
// own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "parallel/nccl/progress.h"

namespace isthmus::testing {
namespace {

using ::testing::ElementsAre;

TEST(NcclProgress, OperationsThatShareAnEventHaveEndedOnlyIfALaterOneHas) {
  int64_t ended = 0;
  const auto count = [&](int64_t started, int64_t finished) {
    return EndedOperations(started, finished, /*events=*/4, [&](int64_t sequence) {
      EXPECT_GE(sequence, started - 4) << "it has no event of its own any more";
      return sequence < ended;
    });
  };
  EXPECT_EQ(count(0, 0), 0);
  EXPECT_EQ(count(9, 0), 0) << "the first one hangs while others are started";
  ended = 3;
  EXPECT_EQ(count(9, 0), 0) << "not to be seen yet";
  ended = 6;
  EXPECT_EQ(count(9, 0), 6);
  EXPECT_EQ(count(9, 6), 6);
  ended = 9;
  EXPECT_EQ(count(9, 6), 9);
}

TEST(NcclProgress, IsLateWhenNothingHasEndedForAsLongAsTheDeadline) {
  NcclProgress progress(absl::Seconds(1000));
  const auto late = [&](int64_t started, int64_t finished, int seconds) {
    return progress.IsLate(started, finished, absl::Seconds(4), absl::Seconds(1000 + seconds));
  };
  for (int second = 1; second <= 10; ++second) EXPECT_FALSE(late(7, 7, second)) << "nothing is waited for";
  EXPECT_FALSE(late(9, 7, 11));
  EXPECT_FALSE(late(9, 7, 12));
  EXPECT_FALSE(late(9, 8, 13)) << "one has ended";
  for (int second = 14; second <= 16; ++second) EXPECT_FALSE(late(9, 8, second)) << second;
  EXPECT_TRUE(late(9, 8, 17));
}

TEST(NcclProgress, TimeForWhichAJobIsSuspendedDoesNotCount) {
  NcclProgress progress(absl::ZeroDuration());
  const auto late = [&](absl::Duration now) { return progress.IsLate(1, 0, absl::Seconds(4), now); };
  EXPECT_FALSE(late(absl::Seconds(1)));
  EXPECT_FALSE(late(absl::Seconds(1000))) << "a scheduler had stopped the process";
  EXPECT_FALSE(late(absl::Seconds(1001)));
  EXPECT_FALSE(late(absl::Seconds(1002)));
  EXPECT_TRUE(late(absl::Seconds(1003)));
}

// Each look at the communicator takes a second, unless the process is stopped meanwhile.
struct FakeCalls {
  NcclState finalized = NcclState::kDone;
  std::vector<NcclState> states;  // in order; the last one repeats for ever
  size_t looks = 0;
  int stopped_at = -1;
  absl::Duration now;
  std::vector<std::string> made;

  NcclState Finalize() {
    made.push_back("finalize");
    return finalized;
  }
  NcclState State() {
    const size_t look = looks++;
    return states[look < states.size() ? look : states.size() - 1];
  }
  void Pause() { now += absl::Seconds(static_cast<int>(looks) == stopped_at ? 10'000 : 1); }
  absl::Duration Now() const { return now; }
  void Destroy() { made.push_back("destroy"); }
  void Abort() { made.push_back("abort"); }
};

constexpr NcclState kDone = NcclState::kDone, kGoesOn = NcclState::kGoesOn, kFailed = NcclState::kFailed;

TEST(NcclEnd, DestroysWhatIsFinalized) {
  FakeCalls calls;
  EndNccl(calls, absl::Seconds(10));
  EXPECT_THAT(calls.made, ElementsAre("finalize", "destroy"));
  EXPECT_EQ(calls.looks, 0u);
}

TEST(NcclEnd, DoesNotDestroyBeforeTheFinalizingIsDone) {
  FakeCalls calls{.finalized = kGoesOn, .states = {kGoesOn, kGoesOn, kDone}};
  EndNccl(calls, absl::Seconds(10));
  EXPECT_THAT(calls.made, ElementsAre("finalize", "destroy"));
  EXPECT_EQ(calls.looks, 3u);
}

TEST(NcclEnd, AbortsWhatFailsOrTakesTooLong) {
  FakeCalls failed{.finalized = kFailed}, fails_later{.finalized = kGoesOn, .states = {kGoesOn, kFailed}},
      late{.finalized = kGoesOn, .states = {kGoesOn}};
  for (FakeCalls* calls : {&failed, &fails_later, &late}) {
    EndNccl(*calls, absl::Seconds(10));
    EXPECT_THAT(calls->made, ElementsAre("finalize", "abort"));
  }
  EXPECT_EQ(late.now, absl::Seconds(11));
}

TEST(NcclCall, IsNotLateBecauseTheProcessWasStopped) {
  FakeCalls calls{.states = {kGoesOn, kGoesOn, kGoesOn, kDone}, .stopped_at = 1};
  EXPECT_EQ(AwaitNccl(calls, kGoesOn, absl::Seconds(10)), kDone);
  FakeCalls hung{.states = {kGoesOn}, .stopped_at = 1};
  EXPECT_EQ(AwaitNccl(hung, kGoesOn, absl::Seconds(10)), kGoesOn);
}

}  // namespace
}  // namespace isthmus::testing
