// A run trains on even if nobody reads its output or its log. It saves when a signal comes, and ends with its status.
#include <absl/strings/str_cat.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <string>
#include <vector>

#include "tests/support/paths.h"
#include "tests/support/program.h"
#include "tests/support/run_folder.h"

namespace isthmus::testing {
namespace {

// Writes until the descriptor takes no more.
void Fill(int descriptor) {
  const std::string much(4096, 'x');
  const int flags = fcntl(descriptor, F_GETFL);
  fcntl(descriptor, F_SETFL, flags | O_NONBLOCK);
  while (write(descriptor, much.data(), much.size()) > 0) continue;
  fcntl(descriptor, F_SETFL, flags);
}

class UnreadOutput : public ::testing::Test {
 protected:
  ~UnreadOutput() override {
    for (const int descriptor : opened_) close(descriptor);
  }
  // Returns a full pipe.
  int FullPipe() {
    std::array<int, 2> ends{};
    EXPECT_EQ(pipe(ends.data()), 0);
    fcntl(ends[1], F_SETPIPE_SZ, 4096);
    opened_.insert(opened_.end(), ends.begin(), ends.end());
    Fill(ends[1]);
    return ends[1];
  }
  // Returns a terminal that is stopped, as after Ctrl-S.
  int StoppedTerminal() {
    const int keyboard = posix_openpt(O_RDWR | O_NOCTTY);
    EXPECT_EQ(grantpt(keyboard), 0);
    EXPECT_EQ(unlockpt(keyboard), 0);
    const int terminal = open(ptsname(keyboard), O_RDWR | O_NOCTTY);  // NOLINT: no other thread calls it
    EXPECT_EQ(tcflow(terminal, TCOOFF), 0);
    opened_.insert(opened_.end(), {keyboard, terminal});
    return terminal;
  }
  // Puts a named pipe in a log's place, fills it, and keeps it open.
  void FillLog(const std::string& name, int rank) {
    std::filesystem::create_directories(project_ / (name + "/log"));
    const std::string path = project_ / absl::StrCat(name, "/log/rank-000", rank, ".log");
    ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
    opened_.push_back(open(path.c_str(), O_RDWR | O_CLOEXEC));
    Fill(opened_.back());
  }
  std::string Command(const std::string& name, const std::string& more) {
    return absl::StrCat("OMP_NUM_THREADS=1 ", ProgramPath(), " train --config ", project_.WriteConfig(name), " ", more);
  }
  // Sends the run a SIGTERM when it has trained some steps. Returns its later output and its status.
  ProgramResult Stop(const std::string& name, const std::string& more) {
    return RunShell(absl::StrCat(Command(name, "--set schedule.steps=1000000 --set telemetry.log_interval=1 " + more),
                                 " & run=$!; until grep -qs train/loss ", project_ / name,
                                 "/metrics.jsonl || ! kill -0 $run; do sleep 0.01; done; kill -TERM $run; wait $run; ",
                                 "echo status $?"));
  }
  void ExpectSaved(const std::string& name, const ProgramResult& result) {
    EXPECT_EQ(result.Count("status 5\n"), 1) << name << "\n" << result.out;
    EXPECT_TRUE(std::filesystem::exists(project_ / (name + "/checkpoints/latest"))) << name;
    EXPECT_FALSE(Losses(project_ / name).empty()) << name;
  }

  TinyProject project_;
  std::vector<int> opened_;
};

TEST_F(UnreadOutput, DoesNotKeepARunFromTrainingAndSaving) {
  const int pipe = FullPipe(), both = FullPipe(), terminal = StoppedTerminal();
  // Both wait for a while at their end.
  auto first = std::async(std::launch::async, [&] { return Stop("pipe", absl::StrCat(">&", pipe)); });
  auto second = std::async(std::launch::async, [&] { return Stop("both", absl::StrCat(">&", both, " 2>&1")); });
  const ProgramResult third = Stop("terminal", absl::StrCat("--progress line >&", terminal, " 2>&1"));
  const ProgramResult said = first.get();
  ExpectSaved("pipe", said);
  EXPECT_EQ(said.Count("isthmus: stopped by SIGTERM after step "), 1) << said.out;
  ExpectSaved("both", second.get());
  ExpectSaved("terminal", third);
}

TEST_F(UnreadOutput, IsSaidAtTheEndOfARun) {
  const ProgramResult result = RunShell(absl::StrCat(Command("end", "--set schedule.steps=2 >&"), FullPipe()));
  EXPECT_EQ(result.exit_status, 0) << result.out;
  EXPECT_EQ(result.Count("isthmus: the output can't be written; the run's files are complete"), 1) << result.out;
}

TEST_F(UnreadOutput, OfALogDoesNotEither) {
  FillLog("log", 0);
  ExpectSaved("log", Stop("log", ""));
  FillLog("ranks", 1);
  const ProgramResult ranks = RunIsthmus("train --config " + project_.WriteConfig("ranks"), 2);
  EXPECT_EQ(ranks.exit_status, 0) << ranks.out;
  EXPECT_EQ(Losses(project_ / "ranks").size(), 20u);
}

}  // namespace
}  // namespace isthmus::testing
