// launch/mpirun/train saves when it is told to end, and starts again when that is wanted.
#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "tests/support/paths.h"
#include "tests/support/program.h"
#include "tests/support/run_folder.h"

namespace isthmus::testing {
namespace {

class MpirunLaunch : public ::testing::Test {
 protected:
  std::string Line(const std::string& name, const std::string& more) {
    return absl::StrCat(SourceFolder(), "/launch/mpirun/train --ranks-per-host 2 --program ", ProgramWithFaultsPath(),
                        " --config ", project_.WriteConfig(name),
                        " --set mesh.tensor=2 --set telemetry.validation_interval=0 --set checkpoint.background=false ",
                        more);
  }
  // Returns a shell command. It starts a run that saves for so many seconds, waits until it trains, and sends `signals`
  // to the script. After each signal it waits until a rank saves. Then `wait $NAME` has the run's exit status.
  std::string Signalled(const std::string& name, int save_seconds, const std::string& signals) {
    const std::string points = project_ / (name + ".points");
    return absl::StrCat("ISTHMUS_FAULT_LOG=", points, " ISTHMUS_FAULTS=\"checkpoint.write@1#1=sleep:", save_seconds,
                        ";step.begin#*=sleep:0.02\" ", Line(name, "--restart 3 --set schedule.steps=100000"), " & ",
                        name, "=$!; until [ $(cat ", project_ / name,
                        "/metrics.jsonl 2>/dev/null | wc -l) -gt 3 ]; do sleep 0.05; done; for signal in ", signals,
                        "; do kill -$signal $", name, "; until grep -q checkpoint.write ", points,
                        ".1; do sleep 0.05; done; done; ");
  }
  TinyProject project_;
};

// mpirun itself would kill the ranks two seconds after the first signal.
TEST_F(MpirunLaunch, AfterASignalToTheScriptTheRunSavesHoweverLongThatTakesAndTheSecondEndsItAtOnce) {
  // Job control is on, because a shell without it starts background commands deaf to SIGINT.
  const ProgramResult result = RunShell(absl::StrCat(
      "set -m; export OMP_NUM_THREADS=1; ", Signalled("terminated", 4, "TERM"), Signalled("interrupted", 4, "INT"),
      Signalled("closed", 4, "HUP HUP"), Signalled("twice", 100000, "TERM TERM"),
      "for name in terminated interrupted closed twice; do wait ${!name}; echo \"$name: $?\"; done"));
  for (const char* name : {"terminated", "interrupted", "closed"}) {
    EXPECT_EQ(result.Count(absl::StrCat(name, ": 5\n")), 1) << result.out;
    const ProgramResult verified = RunIsthmus("checkpoint verify " + (project_ / name));
    EXPECT_EQ(verified.exit_status, 0) << verified.out;
  }
  EXPECT_EQ(result.Count("stopped by SIGUSR1 after step "), 3) << result.out;
  EXPECT_EQ(result.Count("twice: "), 1) << result.out;
  EXPECT_EQ(result.Count("twice: 5\n"), 0) << result.out;
  EXPECT_FALSE(std::filesystem::exists(project_ / "twice/checkpoints/latest"));
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
  // A run that would only fail again is not started again.
  const ProgramResult wrong = RunShell(Line("wrong", "--restart 5 --set model.heads=5"));
  EXPECT_EQ(wrong.exit_status, 2) << wrong.out;
  EXPECT_EQ(wrong.Count("starts again"), 0) << wrong.out;
}

}  // namespace
}  // namespace isthmus::testing
