// Two runs in one folder would set aside and remove each other's checkpoints.
#include "launch/run/run_lock.h"

#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <memory>
#include <string>

#include "tests/support/paths.h"
#include "tests/support/program.h"

namespace isthmus::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class Lock : public ::testing::Test {
 protected:
  RunLock::Waiting Impatient() {
    return {.patience = absl::ZeroDuration(),
            .stop = [] { return false; },
            .note = [this](const std::string& note) { notes_ += note; }};
  }

  TemporaryFolder folder_;
  std::string notes_;
};

TEST_F(Lock, HasOneHolderWhoSaysWhoItIs) {
  const std::string run = folder_ / "run";
  auto first = RunLock::Take(run, Impatient());
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_THAT((*first)->warning(), IsEmpty());
  const absl::Status second = RunLock::Take(run, Impatient()).status();
  EXPECT_EQ(second.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(
      std::string(second.message()),
      AllOf(HasSubstr(run + ": another run (host "), HasSubstr(absl::StrCat(", process ", getpid(), ", since ")),
            HasSubstr(") is writing here; wait for its end, or set `folder` to another one")));
  EXPECT_TRUE(RunLock::Take(folder_ / "other", Impatient()).ok());
  first->reset();
  EXPECT_TRUE(RunLock::Take(run, Impatient()).ok());
  EXPECT_THAT(notes_, IsEmpty());
}

TEST_F(Lock, WaitsForARunThatIsEndingUnlessASignalComes) {
  auto first = RunLock::Take(folder_.path(), Impatient());
  ASSERT_TRUE(first.ok()) << first.status();
  RunLock::Waiting waiting = Impatient();
  waiting.patience = absl::Hours(1);
  waiting.stop = [] { return true; };
  EXPECT_EQ(RunLock::Take(folder_.path(), waiting).status().code(), absl::StatusCode::kCancelled);
  waiting.stop = [] { return false; };
  waiting.note = [&](const std::string& note) {
    notes_ += note;
    first->reset();
  };
  const auto second = RunLock::Take(folder_.path(), waiting);
  EXPECT_TRUE(second.ok()) << second.status();
  EXPECT_THAT(notes_, HasSubstr("is writing here; waiting for its end"));
}

// mpirun's helpers, for example, may live longer than the run.
TEST_F(Lock, IsNotHeldByProgramsThatTheHolderStarts) {
  auto first = RunLock::Take(folder_.path(), Impatient());
  ASSERT_TRUE(first.ok()) << first.status();
  int started[2];
  ASSERT_EQ(pipe(started), 0);
  const pid_t child = fork();
  if (child == 0) {
    dup2(started[1], STDOUT_FILENO);
    execlp("sh", "sh", "-c", "echo; exec sleep 100", nullptr);
    _exit(127);
  }
  char byte = 0;
  ASSERT_EQ(read(started[0], &byte, 1), 1);
  first->reset();
  EXPECT_TRUE(RunLock::Take(folder_.path(), Impatient()).ok());
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  close(started[0]);
  close(started[1]);
}

// This happens after pre-emption, when the job is there again before its predecessor has saved.
TEST_F(Lock, ARunWaitsUntilTheOneBeforeItHasSaved) {
  const TinyProject project;
  const std::string start = absl::StrCat("OMP_NUM_THREADS=1 ", ProgramPath(), " train --config ",
                                         project.WriteConfig("run"), " --set telemetry.validation_interval=0 "),
                    run = project / "run", out = project / "out";
  const ProgramResult result = RunShell(absl::StrCat(
      start, "--set schedule.steps=1000000 & first=$!; until [ -s ", run, "/metrics.jsonl ]; do sleep 0.01; done; ",
      start, "--resume never; echo refused: $?; ", start, "--set schedule.steps=4 --resume auto > ", out,
      " & second=$!; until grep -q \"waiting for its end\" ", out,
      " || ! kill -0 $second; do sleep 0.01; done; kill -TERM $first; ",
      "wait $first; echo first: $?; wait $second; echo second: $?; cat ", out));
  EXPECT_EQ(result.Count("refused: 2\n"), 1) << result.out;
  EXPECT_EQ(result.Count("is writing here; wait for its end"), 1) << result.out;
  EXPECT_EQ(result.Count("first: 5\n"), 1) << result.out;
  EXPECT_EQ(result.Count("second: 0\n"), 1) << result.out;
  EXPECT_EQ(result.Count("continues after step "), 1) << result.out;
}

}  // namespace
}  // namespace isthmus::testing
