// A signal to one rank, in any phase, makes all ranks save or leave things as they were, and end with status 5.
#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/program.h"
#include "tests/support/run_folder.h"

namespace isthmus::testing {
namespace {

// One run, stopped over and over: each start gets a signal in another phase, and the last one comes to the end.
class SignalPhases : public ::testing::Test {
 protected:
  ProgramResult Start(const std::string& faults, const std::string& more = "", const std::string& log = "") {
    return RunWithFaults(
        faults, absl::StrCat("train --config ", project_.WriteConfig("run"), kSettings, " --resume auto ", more), 2,
        120, log);
  }
  // The run gets the signal and says this, and its newest checkpoint is that of `step`.
  void ExpectStop(const std::string& faults, const std::string& message, int step, const std::string& more = "",
                  const std::string& log = "") {
    SCOPED_TRACE(faults);
    const ProgramResult result = Start(faults, more, log);
    EXPECT_EQ(result.exit_status, 5) << result.out;
    EXPECT_EQ(result.Count("isthmus: stopped by " + message), 1) << result.out;
    ExpectNewest(step);
  }
  void ExpectNewest(int step) {
    const std::string checkpoints = project_ / "run/checkpoints";
    const bool any = std::filesystem::exists(checkpoints + "/latest");
    const std::string newest = any ? std::filesystem::read_symlink(checkpoints + "/latest").filename().string() : "";
    EXPECT_EQ(newest, step == 0 ? "" : absl::StrCat("step-000000", step < 10 ? "0" : "", step));
  }
  std::string Metrics() { return ReadText(project_ / "run/metrics.jsonl"); }

  static constexpr const char* kSettings = " --set mesh.tensor=2 --set checkpoint.background=false ";
  TinyProject project_;
};

TEST_F(SignalPhases, EachEndsWithStatusFiveAndTheRunLosesNothing) {
  const ProgramResult whole = RunIsthmus(absl::StrCat("train --config ", project_.WriteConfig("whole"), kSettings), 2);
  ASSERT_EQ(whole.exit_status, 0) << whole.out;

  // There is nothing to save yet.
  ExpectStop("setup.begin@1=int", "SIGINT after the data were opened", 0);
  ExpectStop("setup.data@1=term", "SIGTERM after the data were opened", 0);
  EXPECT_FALSE(std::filesystem::exists(project_ / "run"));
  ExpectStop("setup.model@0=usr1", "SIGUSR1 after the model was made", 0);
  ExpectStop("setup.load@1=int", "SIGINT after everything was set up", 0);
  // In the first step ever, and the first one of a run that goes on, the checkpoint is that step's.
  ExpectStop("step.begin@1=term", "SIGTERM after step 1;", 1);
  ExpectStop("step.forward@0=usr1", "SIGUSR1 after step 2;", 2);
  // Existing files stay as they were.
  const std::string metrics = Metrics();
  ExpectStop("setup.load@1=term", "SIGTERM after a checkpoint was loaded", 2);
  EXPECT_EQ(Metrics(), metrics);
  // The signal comes in any part of a step, or in no step at all.
  ExpectStop("step.data@1#2=term", "SIGTERM after step 4;", 4);
  ExpectStop("step.optimizer@0#2=usr1", "SIGUSR1 after step 6;", 6);
  // A validation, of two batches after step 10, is not seen through.
  const std::string log = project_ / "points";
  ExpectStop("evaluate.batch@1=usr1", "SIGUSR1 after step 10;", 10, "", log);
  for (const char* rank : {".0", ".1"}) {
    const std::string points = ReadText(log + rank);
    EXPECT_EQ(points.find("evaluate.batch"), points.rfind("evaluate.batch")) << points;
    EXPECT_NE(points.find("evaluate.batch"), std::string::npos) << points;
  }
  // While step 12 is being saved, that save is made, and so is the one after the next step.
  ExpectStop("checkpoint.write@0=term", "SIGTERM after step 13;", 13, "--set checkpoint.interval=12");

  // A second signal ends the rank at once, in a step or while it saves. Earlier saves count.
  for (const char* faults : {"step.begin@1=term;step.forward@1=usr1", "step.begin@1=term;checkpoint.write@1=term"}) {
    SCOPED_TRACE(faults);
    const ProgramResult killed = Start(faults);
    EXPECT_GE(killed.exit_status, 128) << killed.out;
    ExpectNewest(13);
  }

  // At the end nothing is left to come back for.
  const ProgramResult done = Start("evaluate.batch@1=term;checkpoint.write@0=usr1");
  EXPECT_EQ(done.exit_status, 0) << done.out;
  ExpectNewest(20);
  EXPECT_EQ(Losses(project_ / "run"), Losses(project_ / "whole"));
  for (const char* file : {"rank-0000.tensors", "rank-0001.tensors"}) {
    const std::string path = absl::StrCat("/checkpoints/step-00000020/", file);
    EXPECT_TRUE(ReadText(project_ / "run" + path) == ReadText(project_ / "whole" + path)) << path;
  }
}

}  // namespace
}  // namespace isthmus::testing
