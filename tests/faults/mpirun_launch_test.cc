// launch/mpirun/train: saves when it is told to end, and starts again when that is wanted.
#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/support/paths.h"
#include "tests/support/program.h"
#include "tests/support/run_folder.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;

class MpirunLaunch : public ::testing::Test {
 protected:
  std::string Line(const std::string& name, const std::string& more) {
    return absl::StrCat(SourceFolder(), "/launch/mpirun/train --ranks-per-host 2 --program ", ProgramWithFaultsPath(),
                        " --config ", project_.WriteConfig(name),
                        " --set mesh.tensor=2 --set telemetry.validation_interval=0 --set checkpoint.background=false ",
                        more);
  }
  // Waits for 10 steps.
  std::string UntilItTrains(const std::string& name) {
    return absl::StrCat("until [ $(cat ", project_ / name,
                        "/metrics.jsonl 2>/dev/null | wc -l) -gt 10 ]; do sleep 0.05; done; ");
  }
  TinyProject project_;
};

// mpirun itself would kill the ranks a second after the first signal.
TEST_F(MpirunLaunch, ASignalToTheScriptMakesTheRunSaveHoweverLongThatTakes) {
  for (const char* signal : {"TERM", "INT"}) {
    SCOPED_TRACE(signal);
    const std::string name = absl::StrCat("saved-", signal);
    const ProgramResult result = RunShell(absl::StrCat(
        "export OMP_NUM_THREADS=1 ISTHMUS_FAULTS=\"checkpoint.write@1#1=sleep:4;step.begin#*=sleep:0.02\"; set -m; ",
        Line(name, "--restart 3 --set schedule.steps=100000"), " & script=$!; ", UntilItTrains(name), "kill -", signal,
        " $script; wait $script"));
    EXPECT_EQ(result.exit_status, 5) << result.out;
    EXPECT_EQ(result.Count("stopped by SIGUSR1 after step "), 1) << result.out;
    const ProgramResult verified = RunIsthmus("checkpoint verify " + (project_ / name));
    EXPECT_EQ(verified.exit_status, 0) << verified.out;
  }
}

TEST_F(MpirunLaunch, ItStartsAgainAfterARankWasKilledAsOftenAsWanted) {
  // In every start the rank dies at its fourth step; the second one goes on after step 3.
  const std::string start = "export OMP_NUM_THREADS=1 ISTHMUS_FAULTS=step.begin@1#4=kill; ";
  const std::string settings = "--set checkpoint.interval=1 --set schedule.steps=";
  const ProgramResult twice = RunShell(start + Line("twice", "--restart 1 " + settings + "6"));
  EXPECT_EQ(twice.exit_status, 0) << twice.out;
  EXPECT_EQ(twice.Count("starts again (1 of 1)"), 1) << twice.out;
  EXPECT_EQ(twice.Count("continues after step 3"), 1) << twice.out;
  EXPECT_EQ(Records(project_ / "twice").size(), 7u);

  const ProgramResult once = RunShell(start + Line("once", settings + "6"));
  EXPECT_NE(once.exit_status, 0) << once.out;
  EXPECT_EQ(once.Count("starts again"), 0) << once.out;
  // What would only fail again.
  const ProgramResult wrong = RunShell(Line("wrong", "--restart 5 --set model.heads=5"));
  EXPECT_EQ(wrong.exit_status, 2) << wrong.out;
  EXPECT_EQ(wrong.Count("starts again"), 0) << wrong.out;
}

}  // namespace
}  // namespace isthmus::testing
