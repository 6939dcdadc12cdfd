// The parts of the watch over ranks, each alone.
#include <absl/strings/str_split.h>
#include <absl/time/time.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "launch/watch/hang_report.h"
#include "launch/watch/heartbeat.h"
#include "launch/watch/leftovers.h"
#include "launch/watch/other_ranks.h"
#include "launch/watch/rank_files.h"
#include "launch/watch/rank_sightings.h"
#include "launch/watch/repetition.h"
#include "launch/watch/start_mark.h"
#include "parallel/collective_ring.h"
#include "runtime/log.h"
#include "tests/support/program.h"

namespace isthmus::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class WatchParts : public ::testing::Test {
 protected:
  WatchParts() { std::filesystem::create_directory(run_.path() + "/log"); }
  // One of three.
  RankOfStart Rank(int rank) const { return {.folder = run_.path(), .mark = mark_, .rank = rank, .ranks = 3}; }
  void LeaveBeat(int rank, int64_t beat) { LeaveBeat(rank, beat, mark_.nonce); }
  void LeaveBeat(int rank, int64_t beat, const std::string& nonce) {
    const Heartbeat heartbeat{.nonce = nonce,
                              .rank = rank,
                              .host = "node7",
                              .process = 1000 + rank,
                              .beat = beat,
                              .step = 3,
                              .phase = "forward"};
    ASSERT_TRUE(WriteHeartbeat(HeartbeatPath(run_.path(), rank), heartbeat).ok());
  }
  // The warnings of rank 0's log, from the text that all of them begin with.
  std::vector<std::string> Warnings() const {
    std::vector<std::string> warnings;
    for (const auto line : absl::StrSplit(ReadText(run_ / "log/rank-0000.log"), '\n')) {
      const size_t text = line.find("warning ");
      if (text != std::string::npos) warnings.emplace_back(line.substr(text));
    }
    return warnings;
  }

  TemporaryFolder run_;
  const StartMark mark_ = MarkOfThisProcess();
};

TEST_F(WatchParts, RanksThatStopAndComeBackAreToldOnceAndWhoLooksIsNot) {
  std::shared_ptr<Log> log = *Log::Open(run_.path(), 0);
  OtherRanks others(Rank(0), absl::Seconds(10), log);
  for (int second = 1; second <= 20; ++second) {
    LeaveBeat(0, 1);
    LeaveBeat(1, 7);
    LeaveBeat(2, second);
    others.Look(absl::Seconds(second));
    EXPECT_EQ(others.stale(), second < 11 ? 0 : 1) << second;
  }
  LeaveBeat(1, 8);
  others.Look(absl::Seconds(21));
  log->Flush();
  EXPECT_THAT(Warnings(), ElementsAre(HasSubstr("rank 1 (process 1001 on node7) has shown no sign of life for 10 s; "
                                                "last seen in step 3, forward"),
                                      HasSubstr("rank 1 shows signs of life again")));
}

TEST_F(WatchParts, AProcessOfAnEarlierStartIsToldOnceIfItStillWrites) {
  std::shared_ptr<Log> log = *Log::Open(run_.path(), 0);
  OtherRanks others(Rank(0), absl::Seconds(10), log);
  for (int second = 1; second <= 30; ++second) {
    LeaveBeat(1, 7, "an earlier one that has ended");
    LeaveBeat(2, second < 3 ? 1 : second, "an earlier one");
    others.Look(absl::Seconds(second));
    log->Flush();
    if (second < 3) {
      EXPECT_THAT(Warnings(), IsEmpty()) << second;
    }
  }
  EXPECT_THAT(Warnings(), ElementsAre(HasSubstr("rank 2 of an earlier start (process 1002 on node7) still lives and "
                                                "writes to the run folder; it is passed over")));
  EXPECT_EQ(others.stale(), 0) << "they are no ranks of this start";
}

TEST_F(WatchParts, ARankThatDoesNotRenewItsHeartbeatIsSilent) {
  LeaveBeat(0, 1);
  LeaveBeat(1, 1);
  LeaveBeat(2, 1, "an earlier one");
  const auto ranks = LookAtRanks(Rank(0), [&] {
    LeaveBeat(0, 2);
    LeaveBeat(2, 2, "an earlier one");
  });
  ASSERT_EQ(ranks.size(), 3u);
  EXPECT_FALSE(ranks[0].silent);
  EXPECT_TRUE(ranks[1].silent);
  EXPECT_TRUE(ranks[2].silent);
  ASSERT_TRUE(ranks[0].heartbeat.has_value() && ranks[1].heartbeat.has_value());
  EXPECT_EQ(ranks[0].heartbeat->beat, 2);
  EXPECT_EQ(ranks[1].heartbeat->beat, 1);
  EXPECT_FALSE(ranks[2].heartbeat.has_value());
}

TEST_F(WatchParts, NobodyIsSilentWhereNotEvenTheOwnHeartbeatIsRenewed) {
  for (const int rank : {0, 1, 2}) LeaveBeat(rank, 1);
  for (const RankSighting& sighting : LookAtRanks(Rank(0), [&] { LeaveBeat(2, 2); })) EXPECT_FALSE(sighting.silent);
}

TEST_F(WatchParts, AHeartbeatCountsAndSaysWhoItIs) {
  RankFiles files(std::make_shared<CollectiveRing>(), Rank(2));
  for (int beats = 1; beats <= 3; ++beats) {
    ASSERT_TRUE(files.Beat().ok());
    const auto beat = ReadHeartbeat(HeartbeatPath(run_.path(), 2));
    ASSERT_TRUE(beat.ok()) << beat.status();
    EXPECT_EQ(beat->beat, beats);
    EXPECT_EQ(beat->nonce, mark_.nonce);
    EXPECT_EQ(beat->rank, 2);
    EXPECT_EQ(beat->birth, ProcessBirth(beat->process));
  }
  files.RemoveHeartbeat();
  EXPECT_FALSE(std::filesystem::exists(HeartbeatPath(run_.path(), 2)));
  std::filesystem::remove_all(run_.path() + "/log");
  EXPECT_TRUE(absl::IsNotFound(files.Beat()));
}

TEST_F(WatchParts, OneRankOfAllClaimsTheReport) {
  const auto ring = std::make_shared<CollectiveRing>();
  const RankFiles first(ring, Rank(1)), second(ring, Rank(2));
  const RankFiles::Claim claim = first.ClaimReport();
  EXPECT_GE(claim.file, 0);
  EXPECT_FALSE(claim.by_another);
  EXPECT_TRUE(second.ClaimReport().by_another);
  first.WriteReport("late: rank 0", claim);
  EXPECT_EQ(ReadText(second.HangPath()), "late: rank 0");
  EXPECT_EQ(ReadText(HangReportPath(run_.path())), "late: rank 0");
  RemoveHangReports(run_.path());
  EXPECT_TRUE(std::filesystem::is_empty(run_.path() + "/log"));
}

TEST_F(WatchParts, AReportThatNobodyCanClaimIsEverybodys) {
  std::filesystem::remove_all(run_.path() + "/log");
  const RankFiles files(std::make_shared<CollectiveRing>(), Rank(1));
  const RankFiles::Claim claim = files.ClaimReport();
  EXPECT_LT(claim.file, 0);
  EXPECT_FALSE(claim.by_another);
  files.WriteReport("late: rank 0", claim);
}

TEST(Repetition, StopsWhenItIsAsked) {
  Repetition repetition;
  std::promise<void> third;
  int calls = 0;
  std::thread thread([&] {
    repetition.Run(absl::Milliseconds(1), [&] {
      if (++calls == 3) third.set_value();
    });
  });
  third.get_future().wait();
  EXPECT_TRUE(repetition.AskToStop(absl::Seconds(kPatience)));
  thread.join();
  EXPECT_GE(calls, 3);
}

TEST(Repetition, DoesNotHoldUpWhoAsksWhileACallHangs) {
  Repetition repetition;
  std::promise<void> entered, goes_on;
  std::thread thread([&] {
    repetition.Run(absl::Milliseconds(1), [&] {
      entered.set_value();
      goes_on.get_future().wait();
    });
  });
  entered.get_future().wait();
  EXPECT_FALSE(repetition.AskToStop(absl::Milliseconds(1)));
  goes_on.set_value();
  EXPECT_TRUE(repetition.AskToStop(absl::Seconds(kPatience)));
  thread.join();
}

}  // namespace
}  // namespace isthmus::testing
