// Finds which rank is blamed for a hang, from the files that ranks leave behind.
#include "launch/watch/hang_report.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "launch/watch/heartbeat.h"
#include "launch/watch/heartbeat_ages.h"
#include "tests/support/program.h"

namespace isthmus::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// Makes rank 2 x data + tensor of a mesh of 2 x 2, which has entered so many collectives of each group.
RankSighting RankOfFour(int rank, int64_t world, int64_t tensor, int64_t data) {
  Heartbeat beat{.rank = rank, .host = "node7", .process = 1000 + rank, .beat = 5, .step = 3, .phase = "forward"};
  beat.groups = {{.name = "world", .root = 0, .size = 4, .started = world},
                 {.name = "tensor", .root = rank / 2 * 2, .size = 2, .started = tensor},
                 {.name = "data", .root = rank % 2, .size = 2, .started = data}};
  return {.heartbeat = beat};
}

RankSighting Waiting(RankSighting rank, size_t group, double since) {
  const CollectiveGroup& in = rank.heartbeat->groups[group];
  rank.heartbeat->waiting = {.group = in.name,
                             .root = in.root,
                             .sequence = in.started,
                             .operation = "all_reduce",
                             .bytes = 4096,
                             .waited = 110 - since,
                             .step = 3,
                             .phase = "reduce"};
  return rank;
}

// Rank 3 is somewhere. Rank 2 waits for it as a tensor rank, rank 1 as a data rank, and rank 0 for rank 2.
std::vector<RankSighting> AllWaitForRank3() {
  return {Waiting(RankOfFour(0, 8, 20, 31), 2, 104), Waiting(RankOfFour(1, 8, 20, 31), 2, 103),
          Waiting(RankOfFour(2, 8, 21, 30), 1, 101), RankOfFour(3, 8, 20, 30)};
}

TEST(HangReport, TheRankThatOthersWaitForIsNamedNotThoseThatWaitForEachOther) {
  const auto ranks = AllWaitForRank3();
  EXPECT_THAT(LateRanks(ranks), ElementsAre(3));
  const std::string report = HangReport(ranks, "data group: late");
  EXPECT_THAT(report, HasSubstr("data group: late\nlate: rank 3 (process 1003 on node7), whose process is alive; "));
  // It has not entered two collectives; the report names the one that has been waited for longer.
  EXPECT_THAT(report, HasSubstr("it has not entered all_reduce #21 (4096 bytes) of the tensor group, for which rank 2 "
                                "has waited for 9 s in step 3, reduce; last seen in step 3, forward"));
  EXPECT_THAT(report, Not(HasSubstr("late: rank 2")));
}

TEST(HangReport, ASilentRankIsNamedThoughItEnteredWhatOthersWaitFor) {
  std::vector<RankSighting> ranks = {
      Waiting(RankOfFour(0, 9, 20, 31), 0, 100), Waiting(RankOfFour(1, 9, 20, 31), 0, 100),
      Waiting(RankOfFour(2, 9, 20, 31), 0, 100), Waiting(RankOfFour(3, 9, 20, 31), 0, 99)};
  EXPECT_THAT(LateRanks(ranks), IsEmpty());
  EXPECT_THAT(HangReport(ranks, "late"), HasSubstr("no rank is late"));
  ranks[1].silent = true;
  EXPECT_THAT(LateRanks(ranks), ElementsAre(1));
  const std::string report = HangReport(ranks, "late");
  EXPECT_THAT(report, HasSubstr("late: rank 1 (process 1001 on node7), which shows no sign of life"));
  EXPECT_THAT(report,
              HasSubstr("it is in all_reduce #9 (4096 bytes) of the world group; last seen in step 3, forward"));
}

TEST(HangReport, ARankWithoutAnyHeartbeatIsNamed) {
  auto ranks = AllWaitForRank3();
  ranks[3] = {.heartbeat = std::nullopt, .silent = true};
  EXPECT_THAT(LateRanks(ranks), ElementsAre(3));
  EXPECT_THAT(HangReport(ranks, "late"), HasSubstr("late: rank 3: has left no sign of life"));
}

TEST(HangReport, RanksThatWaitForEachOtherInDifferentOrdersAreAllNamed) {
  // Rank 0 is in the data group's next operation, rank 2, its data rank, in the world's.
  const std::vector<RankSighting> ranks = {Waiting(RankOfFour(0, 8, 20, 32), 2, 100), RankOfFour(1, 8, 20, 31),
                                           Waiting(RankOfFour(2, 9, 20, 31), 0, 100), RankOfFour(3, 9, 20, 31)};
  std::vector<RankSighting> two = {ranks[0], ranks[2]};
  EXPECT_THAT(LateRanks(two), ElementsAre(0, 1));
}

TEST(HangReport, ARankThatDoesNotSendWhatAnotherWaitsForIsNamed) {
  auto ranks = AllWaitForRank3();
  for (RankSighting& rank : ranks) rank.heartbeat->waiting.reset();
  ranks[0].heartbeat->waiting = {.group = "world", .peer = 2, .operation = "receive from", .bytes = 8, .waited = 10};
  EXPECT_THAT(LateRanks(ranks), ElementsAre(2));
  EXPECT_THAT(HangReport(ranks, "late"),
              HasSubstr("it has not answered receive from rank 2 (8 bytes), for which rank 0 has waited for 10 s"));
}

TEST(HangReport, ManyLateRanksAreCounted) {
  std::vector<RankSighting> ranks;
  for (int rank = 0; rank < 1000; ++rank) {
    ranks.push_back(RankOfFour(rank, rank < 10 ? 7 : 8, 0, 0));
    if (rank >= 10) ranks.back() = Waiting(ranks.back(), 0, 100);
  }
  const std::string report = HangReport(ranks, "late");
  EXPECT_THAT(report, HasSubstr("for which ranks 10, 11, 12, 13, 14, 15, 16, 17 and 982 others have waited"));
  EXPECT_THAT(report, HasSubstr("late: rank 7 "));
  EXPECT_THAT(report, HasSubstr("\nand 2 other late ranks"));
}

TEST(HangReport, TheRingIsLinesOfJson) {
  CollectiveRing ring;
  const int tensor = ring.AddGroup("tensor", 2, 2);
  ring.End(ring.Start(tensor, 0, "all_reduce", 400));
  ring.whereabouts().set_step(4);
  ring.whereabouts().Enter("head");
  ring.Start(tensor, 1, "all_gather", 24);
  const std::vector<std::string> lines = absl::StrSplit(RingText(ring, "4d2"), '\n', absl::SkipEmpty());
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_GT(nlohmann::json::parse(lines[0])["end"], 1.7e9);
  const auto last = nlohmann::json::parse(lines[1]);
  EXPECT_EQ(last["group"], "tensor");
  EXPECT_EQ(last["root"], 2);
  EXPECT_EQ(last["nonce"], "4d2");
  EXPECT_EQ(last["sequence"], 1);
  EXPECT_EQ(last["operation"], "all_gather");
  EXPECT_EQ(last["bytes"], 24);
  EXPECT_TRUE(last["end"].is_null());
  EXPECT_EQ(last["step"], 4);
  EXPECT_EQ(last["phase"], "head");
}

TEST(Heartbeat, IsReadAsItWasWritten) {
  const TemporaryFolder folder;
  CollectiveRing ring;
  ring.AddGroup("world", 0, 4);
  const int data = ring.AddGroup("data", 1, 2);
  ring.whereabouts().set_step(12);
  ring.whereabouts().Enter("reduce");
  ring.Wait(ring.Start(data, 40, "reduce_scatter", 1 << 20));
  Heartbeat beat = HeartbeatOf(ring);
  beat.nonce = "4d2";
  beat.since = "2026-11-29T01:00:00+00:00";
  beat.birth = 77;
  beat.rank = 3;
  beat.host = "node \"7\"";
  beat.process = 4321;
  beat.beat = 17;
  const std::string path = folder / "beat";
  for (int again = 0; again < 2; ++again) ASSERT_TRUE(WriteHeartbeat(path, beat).ok());
  EXPECT_EQ(ReadText(path).size(), 4096u);
  const auto read = ReadHeartbeat(path);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->nonce, "4d2");
  EXPECT_EQ(read->since, beat.since);
  EXPECT_EQ(read->birth, 77);
  EXPECT_EQ(read->rank, 3);
  EXPECT_EQ(read->host, beat.host);
  EXPECT_EQ(read->process, 4321);
  EXPECT_EQ(read->beat, 17);
  EXPECT_EQ(read->step, 12);
  EXPECT_EQ(read->phase, "reduce");
  ASSERT_EQ(read->groups.size(), 2u);
  EXPECT_EQ(read->groups[0].started, -1);
  EXPECT_EQ(read->groups[1].name, "data");
  EXPECT_EQ(read->groups[1].root, 1);
  EXPECT_EQ(read->groups[1].size, 2);
  EXPECT_EQ(read->groups[1].started, 40);
  ASSERT_TRUE(read->waiting.has_value());
  EXPECT_EQ(read->waiting->group, "data");
  EXPECT_EQ(read->waiting->sequence, 40);
  EXPECT_EQ(read->waiting->operation, "reduce_scatter");
  EXPECT_EQ(read->waiting->bytes, 1 << 20);
  EXPECT_GE(read->waiting->waited, 0);
  EXPECT_LT(read->waiting->waited, 1e6) << "no moment of any clock, but a time";
  EXPECT_EQ(read->waiting->step, 12);
  EXPECT_EQ(read->waiting->phase, "reduce");
}

TEST(Heartbeat, APageThatIsHalfWrittenOrForeignIsRejected) {
  const TemporaryFolder folder;
  const std::string path = folder / "beat";
  ASSERT_TRUE(WriteHeartbeat(path, {.rank = 1, .host = "a", .step = 100, .phase = "forward"}).ok());
  const std::string whole = ReadText(path);
  const size_t text = whole.find('\n');
  for (size_t i = 0; i < text + 9; i += 3) {
    std::string changed = whole;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    WriteText(path, changed);
    EXPECT_TRUE(absl::IsDataLoss(ReadHeartbeat(path).status())) << i;
    WriteText(path, whole.substr(0, i));
    EXPECT_TRUE(absl::IsDataLoss(ReadHeartbeat(path).status())) << i;
  }
  WriteText(path, "[1]\n1f2a3b4c\n");
  EXPECT_TRUE(absl::IsDataLoss(ReadHeartbeat(path).status()));
  EXPECT_TRUE(absl::IsNotFound(ReadHeartbeat(folder / "none").status()));
}

TEST(HeartbeatAges, TellOnceThatABeatStoppedAndOnceThatItIsBack) {
  HeartbeatAges ages(3, absl::Seconds(10));
  using News = HeartbeatAges::News;
  EXPECT_EQ(ages.Observe(2, 40, absl::Seconds(1)), News::kNone);
  EXPECT_EQ(ages.Observe(2, 40, absl::Seconds(10)), News::kNone);
  EXPECT_EQ(ages.Observe(1, 7, absl::Seconds(100)), News::kNone) << "of another rank, seen for the first time";
  EXPECT_EQ(ages.Observe(2, 40, absl::Seconds(11)), News::kStale);
  EXPECT_EQ(ages.Observe(2, 40, absl::Seconds(30)), News::kNone);
  EXPECT_EQ(ages.Age(2, absl::Seconds(31)), absl::Seconds(30));
  EXPECT_EQ(ages.Observe(2, 41, absl::Seconds(31)), News::kBack);
  EXPECT_EQ(ages.Observe(2, 42, absl::Seconds(50)), News::kNone);
}

}  // namespace
}  // namespace isthmus::testing
