// `isthmus sweep --launcher mpirun`, with real runs on two ranks each.
#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "launch/run/run_lock.h"
#include "tests/support/paths.h"
#include "tests/support/program.h"
#include "tests/support/run_folder.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class SweepLauncher : public ::testing::Test {
 protected:
  SweepLauncher() { project_.WriteConfig("base", "checkpoint { save_final: false }"); }

  // Writes a sweep of one or two arms whose runs have two ranks. Returns its command line.
  std::string Command(int arms, int steps, const std::string& more = "") const {
    WriteText(project_ / "sweep.textproto",
              absl::StrCat("base: 'base.textproto' folder: '", project_ / "sweep", "' set: 'schedule.steps=", steps,
                           "' set: 'telemetry.tensorboard=false' seeds: 1 arms { name: 'full' }",
                           arms > 1 ? " arms { name: 'rank-4' set: 'model.head.rank=4' }" : "", more));
    return absl::StrCat("sweep --config ", project_ / "sweep.textproto", " ");
  }
  static std::string Mpirun() {
    return absl::StrCat(LauncherPath(), " --allow-run-as-root --oversubscribe --bind-to none -n 2");
  }
  static std::string ByMpirun() { return absl::StrCat("--launcher \"", Mpirun(), "\" --set mesh.tensor=2 "); }
  static ProgramResult RunOnOneThread(const std::string& command, const std::string& faults = "") {
    return RunShell(absl::StrCat("export OMP_NUM_THREADS=1 ISTHMUS_FAULTS=\"", faults, "\"\n", command));
  }
  // Returns the loss of the arm's one run; fails if it has none.
  double LossOf(const std::string& arm) const {
    const auto record = nlohmann::json::parse(ReadText(project_ / ("sweep/" + arm + "/seed-1/sweep.json")), nullptr,
                                              /*allow_exceptions=*/false);
    EXPECT_TRUE(record.contains("loss")) << record.dump();
    return record.value("loss", 0.0);
  }
  std::string LogOf(const std::string& arm) const {
    return ReadText(project_ / ("sweep/" + arm + "/seed-1/sweep.log"));
  }

  TinyProject project_;
};

TEST_F(SweepLauncher, RunsOnTwoRanksGoOnWhereASignalStoppedThem) {
  constexpr int kSteps = 100;
  const std::string command = Command(2, kSteps);
  // Each step takes a while, so that the signal comes between two of them.
  const std::string metrics = project_ / "sweep/full/seed-1/metrics.jsonl";
  const ProgramResult stopped = RunOnOneThread(
      absl::StrCat(ProgramWithFaultsPath(), " ", command, ByMpirun(), "--stop-once >", project_ / "out",
                   " 2>&1 & sweep=$!; until [ \"$(cat ", metrics, " 2>/dev/null | wc -l)\" -gt 3 ]; do sleep 0.05; ",
                   // More than one signal ends no run before it has saved.
                   "done; kill -TERM $sweep; kill -USR1 $sweep; wait $sweep; status=$?; cat ", project_ / "out",
                   "; exit $status"),
      "step.begin@0#*=sleep:0.1");
  EXPECT_EQ(stopped.exit_status, 5) << stopped.out;
  EXPECT_THAT(stopped.out, HasSubstr("the sweep's runs have saved; start it again to go on"));
  EXPECT_THAT(LogOf("full"), HasSubstr("stopped by SIGUSR1 after step "));
  EXPECT_FALSE(std::filesystem::exists(project_ / "sweep/full/seed-1/sweep.json"));

  // The next start is itself a rank of mpirun, whose variables must not reach the mpirun of a run.
  const ProgramResult rest = RunOnOneThread(
      absl::StrCat(LauncherPath(), " --allow-run-as-root -n 1 ", ProgramPath(), " ", command, ByMpirun()));
  ASSERT_EQ(rest.exit_status, 0) << rest.out << LogOf("full");
  EXPECT_THAT(LogOf("full"), HasSubstr("continues after step "));
  const double full = LossOf("full"), narrow = LossOf("rank-4");
  EXPECT_THAT(ReadText(project_ / "sweep/full/seed-1/config.textproto"), HasSubstr("tensor: 2"));

  // On one rank the same sweep has the same losses, but for rounding.
  std::filesystem::remove_all(project_ / "sweep");
  const ProgramResult alone = RunIsthmus(Command(2, kSteps));
  ASSERT_EQ(alone.exit_status, 0) << alone.out;
  EXPECT_NEAR(full, LossOf("full"), 1e-3);
  EXPECT_NEAR(narrow, LossOf("rank-4"), 1e-3);
}

TEST_F(SweepLauncher, ALostRunIsTriedAgainSoManyTimes) {
  const std::string command = absl::StrCat(ProgramWithFaultsPath(), " ", Command(1, 4), ByMpirun(), "--lost-runs 1 ");
  const std::string killed = "step.begin@1#2=kill";
  const ProgramResult first = RunOnOneThread(command, killed);
  EXPECT_EQ(first.exit_status, 4) << first.out;
  EXPECT_THAT(first.out, HasSubstr("full/seed-1: lost (1 of 1 times before it counts as failed): exit status "));
  EXPECT_THAT(first.out, HasSubstr("start the sweep again to go on"));
  EXPECT_FALSE(std::filesystem::exists(project_ / "sweep/full/seed-1/sweep.json"));
  const ProgramResult second = RunOnOneThread(command, killed);
  EXPECT_EQ(second.exit_status, 2) << second.out;
  EXPECT_THAT(second.out, HasSubstr("full/seed-1: failed: exit status "));
  // A run that is asked for anew has all its tries again.
  const ProgramResult third = RunOnOneThread(command + "--retry-failed", killed);
  EXPECT_EQ(third.exit_status, 4) << third.out;
  EXPECT_THAT(third.out, HasSubstr("lost (1 of 1 times"));
  EXPECT_EQ(RunOnOneThread(command + "--retry-failed").exit_status, 0);
  LossOf("full");
}

TEST_F(SweepLauncher, TheReasonOfAFailureIsTheProgramsOwn) {
  const ProgramResult result =
      RunOnOneThread(absl::StrCat(ProgramPath(), " ", Command(1, 2), ByMpirun(), "--set data.validation=/nowhere"));
  EXPECT_EQ(result.exit_status, 2) << result.out;
  EXPECT_THAT(result.out, HasSubstr("full/seed-1: failed: exit status 2: isthmus: "));
  EXPECT_THAT(result.out, HasSubstr("/nowhere"));
}

TEST_F(SweepLauncher, WhatCanNotBeLaunchedIsRefusedBeforeTheFirstRun) {
  const std::string command = Command(1, 2);
  for (const char* line : {"\"\"", "\" \"", "no-such-launcher"}) {
    const ProgramResult result = RunShell(absl::StrCat(ProgramPath(), " ", command, "--launcher ", line));
    EXPECT_EQ(result.exit_status, 2) << line;
    EXPECT_THAT(result.out, HasSubstr("sweep --launcher: found ")) << line;
  }
  // A mesh of two ranks needs a launcher, and one that no number of ranks can train is refused with it.
  EXPECT_THAT(RunIsthmus(command + "--set mesh.tensor=2").out, HasSubstr("arm full: "));
  const ProgramResult odd = RunIsthmus(command + ByMpirun() + "--set mesh.tensor=3");
  EXPECT_EQ(odd.exit_status, 2) << odd.out;
  EXPECT_THAT(odd.out, HasSubstr("mesh.tensor"));
  EXPECT_THAT(RunIsthmus(command + "--lost-runs -1").out, HasSubstr("--lost-runs: found -1; accepts 0 to 1000"));
  EXPECT_FALSE(std::filesystem::exists(project_ / "sweep"));
  // A launcher that starts nothing fails its run.
  const ProgramResult nothing = RunIsthmus(command + "--launcher false");
  EXPECT_EQ(nothing.exit_status, 2) << nothing.out;
  EXPECT_THAT(nothing.out, HasSubstr("full/seed-1: failed: exit status 1"));
}

// Several workers end at once, and may have the same process number on different machines.
TEST_F(SweepLauncher, OneWorkerAtATimeWritesTheResults) {
  const std::string command = Command(1, 2);
  ASSERT_EQ(RunIsthmus(command).exit_status, 0);
  const std::string results = project_ / "sweep/results.json", found = ReadText(results);
  std::filesystem::remove(results);
  {
    const auto lock = RunLock::Take(
        project_ / "sweep/claims",
        {.patience = absl::ZeroDuration(), .stop = [] { return false; }, .note = [](const std::string&) {}});
    ASSERT_TRUE(lock.ok()) << lock.status();
    EXPECT_EQ(RunIsthmus(command, /*ranks=*/0, /*seconds=*/3).exit_status, 137);
    EXPECT_FALSE(std::filesystem::exists(results));
  }
  EXPECT_EQ(RunIsthmus(command).exit_status, 0);
  EXPECT_EQ(ReadText(results), found);
}

}  // namespace
}  // namespace isthmus::testing
