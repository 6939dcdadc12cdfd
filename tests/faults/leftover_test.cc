// A rank that is left over from an earlier start does the next start no harm. It is named, and it ends itself.
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <csignal>
#include <filesystem>
#include <functional>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "launch/watch/heartbeat.h"
#include "tests/support/program.h"
#include "tests/support/run_folder.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;

pid_t ParentOf(pid_t process) {
  const std::string stat = ReadText(absl::StrCat("/proc/", process, "/stat"));
  const std::vector<std::string> fields = absl::StrSplit(stat.substr(stat.rfind(')') + 2), ' ');
  pid_t parent = 0;
  return fields.size() > 1 && absl::SimpleAtoi(fields[1], &parent) ? parent : 0;
}

bool Await(const std::function<bool()>& happened) {
  for (int tries = 0; tries < 100 * kPatience; ++tries) {
    if (happened()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

class Leftover : public ::testing::Test {
 protected:
  // Waits for a heartbeat of the rank that `wanted` accepts, and returns it.
  Heartbeat AwaitBeat(int rank, const std::function<bool(const Heartbeat&)>& wanted) {
    Heartbeat last;
    EXPECT_TRUE(Await([&] {
      const auto beat = ReadHeartbeat(HeartbeatPath(project_ / "run", rank));
      if (beat.ok()) last = *beat;
      return beat.ok() && wanted(last);
    })) << "rank "
        << rank;
    return last;
  }

  TinyProject project_;
};

TEST_F(Leftover, IsNamedAndEndsWhileTheNextStartGoesOn) {
  // A process whose parents were killed becomes a child of this one, which learns how it ended.
  ASSERT_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
  const std::string command = absl::StrCat(
      "train --config ",
      project_.WriteConfig("run", "mesh { tensor: 2 collective_timeout_seconds: 900 } checkpoint { interval: 2 }"),
      " --set schedule.steps=1000000 --set telemetry.validation_interval=0 --resume auto");
  auto first = std::async(std::launch::async, [&] { return RunWithFaults("step.forward@1#4=stop", command, 2); });
  const Heartbeat waits =
      AwaitBeat(0, [](const Heartbeat& beat) { return beat.step == 4 && beat.waiting.has_value(); });
  const auto leftover = static_cast<pid_t>(AwaitBeat(1, [](const Heartbeat&) { return true; }).process);
  const auto mate = static_cast<pid_t>(waits.process);
  const pid_t launcher = ParentOf(mate);
  ASSERT_GT(launcher, 1);
  for (const pid_t process : {launcher, mate}) EXPECT_EQ(kill(process, SIGKILL), 0);
  first.get();

  auto second = std::async(std::launch::async, [&] { return RunIsthmus(command, 2); });
  const auto other = [&](const Heartbeat& beat) { return beat.nonce != waits.nonce && beat.step > 4; };
  const auto rank = static_cast<pid_t>(AwaitBeat(1, other).process);
  EXPECT_EQ(kill(leftover, SIGCONT), 0);
  int how = 0;
  EXPECT_EQ(waitpid(leftover, &how, 0), leftover);
  EXPECT_TRUE(WIFEXITED(how) && WEXITSTATUS(how) == 4) << how;
  // The run goes on, and its own rank 1 keeps writing heartbeats.
  const int64_t then = AwaitBeat(1, other).beat;
  AwaitBeat(1, [&](const Heartbeat& beat) { return beat.beat > then + 2; });
  EXPECT_EQ(kill(rank, SIGTERM), 0);
  const ProgramResult result = second.get();
  EXPECT_EQ(result.exit_status, 5) << result.out;
  const std::string name =
      absl::StrCat("rank 1 of an earlier start (process ", leftover, " on ", waits.host, ", since ");
  EXPECT_EQ(result.Count(name), 1) << result.out;
  EXPECT_THAT(ReadText(project_ / "run/log/rank-0000.log"), HasSubstr(name));
  for (const auto& entry : std::filesystem::directory_iterator(project_ / "run/log")) {
    EXPECT_NE(entry.path().filename().string().substr(0, 4), "hang") << entry.path();
  }
  prctl(PR_SET_CHILD_SUBREAPER, 0);
}

}  // namespace
}  // namespace isthmus::testing
