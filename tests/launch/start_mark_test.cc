// Starts of a run in one folder are told apart, and leftovers of an earlier start are found.
#include "launch/watch/start_mark.h"

#include <absl/strings/str_cat.h>
#include <absl/time/time.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <limits>
#include <string>

#include "launch/watch/heartbeat.h"
#include "launch/watch/leftovers.h"
#include "tests/support/paths.h"
#include "tests/support/program.h"

namespace isthmus::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class Starts : public ::testing::Test {
 protected:
  Starts() { std::filesystem::create_directory(run_.path() + "/log"); }
  StartMark Start() {
    StartMark mark = NewStartMark(run_.path());
    EXPECT_TRUE(WriteStartMark(run_.path(), mark).ok());
    return mark;
  }
  void LeaveHeartbeat(int rank, const std::string& host, int64_t process, int64_t birth) {
    const Heartbeat beat{.nonce = "4d2", .rank = rank, .host = host, .process = process, .birth = birth};
    ASSERT_TRUE(WriteHeartbeat(HeartbeatPath(run_.path(), rank), beat).ok());
  }
  // Returns the ranks whose leftover processes are found alive.
  std::vector<int> Alive() {
    auto world = MakeSelfCommunicator();
    const auto found = FindLeftovers(run_.path(), *world);
    EXPECT_TRUE(found.ok()) << found.status();
    std::vector<int> ranks;
    for (const Heartbeat& beat : found->alive) ranks.push_back(beat.rank);
    for (const Heartbeat& beat : found->elsewhere) ranks.push_back(-beat.rank);
    return ranks;
  }

  TemporaryFolder run_;
};

TEST_F(Starts, OneAfterAnotherIsLaterWhateverTheClockSays) {
  EXPECT_FALSE(ReadStartMark(run_.path()).ok());
  StartMark ahead = Start();
  ahead.number += int64_t{1} << 50;  // from a machine whose clock is years ahead
  ASSERT_TRUE(WriteStartMark(run_.path(), ahead).ok());
  const StartMark second = Start(), third = Start();
  EXPECT_TRUE(IsLater(second, ahead));
  EXPECT_TRUE(IsLater(third, second));
  EXPECT_FALSE(IsLater(ahead, second)) << "an old one, as a network file system may show it";
  EXPECT_FALSE(IsLater(third, third));
  const auto found = ReadStartMark(run_.path());
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->nonce, third.nonce);
  EXPECT_EQ(found->number, third.number);
  EXPECT_EQ(found->Describe(), third.Describe());
}

TEST_F(Starts, AMarkThatIsNotWholeIsNone) {
  Start();
  const std::string path = run_ / "log/start", whole = ReadText(path);
  for (size_t i = 0; i < whole.find('\n') + 9; i += 7) {
    WriteText(path, whole.substr(0, i));
    EXPECT_TRUE(absl::IsDataLoss(ReadStartMark(run_.path()).status())) << i;
  }
  WriteText(path, "");
  EXPECT_GT(NewStartMark(run_.path()).number, 0);
}

TEST_F(Starts, ANumberThatLeavesNoRoomForLaterOnesIsNone) {
  StartMark mark = Start();
  const int64_t number = mark.number;
  for (const int64_t most : {std::numeric_limits<int64_t>::max(), (int64_t{1} << 62) + 1, int64_t{-1}}) {
    mark.number = most;
    ASSERT_TRUE(WriteStartMark(run_.path(), mark).ok());
    const absl::Status found = ReadStartMark(run_.path()).status();
    EXPECT_TRUE(absl::IsDataLoss(found)) << found;
    EXPECT_GE(NewStartMark(run_.path()).number, number);
    EXPECT_LE(NewStartMark(run_.path()).number, int64_t{1} << 62);
  }
  mark.number = int64_t{1} << 62;
  ASSERT_TRUE(WriteStartMark(run_.path(), mark).ok());
  EXPECT_TRUE(ReadStartMark(run_.path()).ok());
  Start();
  EXPECT_TRUE(ReadStartMark(run_.path()).ok());
}

TEST_F(Starts, APipeOfThatNameHoldsNobodyUp) {
  ASSERT_EQ(mkfifo((run_ / "log/start").c_str(), 0600), 0);
  EXPECT_FALSE(ReadStartMark(run_.path()).ok());
  EXPECT_FALSE(WriteStartMark(run_.path(), NewStartMark(run_.path())).ok());
}

TEST_F(Starts, AFolderWithoutRankZerosMarkIsAnother) {
  const auto find = [&](const StartMark& mark) {
    return FindStartMark(run_.path(), mark, 1, /*tries=*/2, absl::ZeroDuration());
  };
  const StartMark mine = NewStartMark(run_.path());
  const absl::Status none = find(mine);
  EXPECT_TRUE(absl::IsFailedPrecondition(none)) << none;
  const std::string begins = absl::StrCat("rank 1 (host ", HostName(), ") sees another folder at ", run_.path());
  EXPECT_THAT(std::string(none.message()), ::testing::StartsWith(begins));
  EXPECT_THAT(std::string(none.message()), ::testing::HasSubstr("put the run folder on a file system that all ranks"));
  Start();
  EXPECT_TRUE(absl::IsFailedPrecondition(find(mine)));
  ASSERT_TRUE(WriteStartMark(run_.path(), mine).ok());
  EXPECT_TRUE(find(mine).ok()) << find(mine);
}

// Rank 1 has another file system at the run's path.
TEST(StartsOfRanks, NoneBeginsToTrainInTwoFolders) {
  const TinyProject project;
  const std::string run = project / "apart", other = project / "other";
  for (const std::string& folder : {run, other}) std::filesystem::create_directory(folder);
  WriteText(project / "apart.sh", absl::StrCat("if [ \"$OMPI_COMM_WORLD_RANK\" = 1 ]; then mount --bind ", other, " ",
                                               run, " || exit 99; fi\nexec \"$@\"\n"));
  if (RunShell(absl::StrCat("OMPI_COMM_WORLD_RANK=1 unshare -m bash ", project / "apart.sh", " true")).exit_status !=
      0) {
    GTEST_SKIP() << "needs root and the right to mount";
  }
  const ProgramResult result = RunShell(
      absl::StrCat("export OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; ",
                   LauncherPath(), " --oversubscribe --bind-to none -n 2 unshare -m bash ", project / "apart.sh", " ",
                   ProgramPath(), " train --config ", project.WriteConfig("apart"), " --set mesh.data=2"));
  EXPECT_EQ(result.exit_status, 2) << result.out;
  EXPECT_EQ(result.Count(absl::StrCat(") sees another folder at ", run, " than rank 0 (host ")), 1) << result.out;
  EXPECT_EQ(result.Count("trained"), 0) << result.out;
  EXPECT_FALSE(std::filesystem::exists(HeartbeatPath(other, 1)));
}

TEST(StartsOfRanks, TrainWithoutAMarkWhereNoneCanBeWritten) {
  const TinyProject project;
  const std::string log = project / "unmarked/log";
  std::filesystem::create_directories(log);
  ASSERT_EQ(mkfifo((log + "/start").c_str(), 0600), 0);
  const ProgramResult result =
      RunIsthmus(absl::StrCat("train --config ", project.WriteConfig("unmarked"), " --set schedule.steps=2"), 2);
  EXPECT_EQ(result.exit_status, 0) << result.out;
  EXPECT_EQ(result.Count("trained 2 steps"), 1) << result.out;
  EXPECT_THAT(ReadText(log + "/rank-0000.log"), ::testing::HasSubstr("no rank of this start will notice a later one"));
}

TEST_F(Starts, ProcessesOfEarlierOnesAreFoundWhereTheyLive) {
  const pid_t ended = fork();
  if (ended == 0) _exit(0);
  siginfo_t info{};
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(ended), &info, WEXITED | WNOWAIT), 0);
  EXPECT_EQ(ProcessBirth(ended), 0) << "a zombie";
  const int64_t birth = ProcessBirth(getpid());
  ASSERT_GT(birth, 0);
  LeaveHeartbeat(0, HostName(), ended, birth);
  LeaveHeartbeat(1, HostName(), getpid(), birth);
  LeaveHeartbeat(2, HostName(), getpid(), birth + 1);  // its process had the same number before this one
  LeaveHeartbeat(3, "another machine", getpid(), birth);
  WriteText(HeartbeatPath(run_.path(), 4), "half a heartbeat");
  EXPECT_THAT(Alive(), ElementsAre(1, -3));
  EXPECT_THAT(Alive(), IsEmpty()) << "nobody writes over them: they have been taken away";
  EXPECT_EQ(waitpid(ended, nullptr, 0), ended);
}

}  // namespace
}  // namespace isthmus::testing
