// Runs under a real Slurm: it tests which jobs are queued again, which are not, and that nothing is lost on the way.
#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <string>
#include <thread>

#include "tests/support/paths.h"
#include "tests/support/program.h"
#include "tests/support/run_folder.h"
#include "tests/support/slurm_cluster.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class Slurm : public ::testing::Test {
 protected:
  // Half a minute passes until Slurm looks at time limits. Nearly as long passes until it believes that a node is gone.
  // These jobs begin first, and the tests that wait for them come last.
  static void SetUpTestSuite() {
    cluster_ = new SlurmCluster;
    if (cluster_->state() != "ready") return;
    project_ = new TinyProject;
    limited_ = Queue("limited", kSlow, absl::StrCat("--time 1 --signal-before 50 --max-requeues 1000 ", kSafe), kPause);
    // At step 30 it waits for the crash. By then the checkpoint of step 10 is complete: that of step 20 waited for it.
    const std::string crash = *project_ / "crash";
    crashed_ = Queue("crashed", kShort, "", absl::StrCat("\"", kPause, ";step.begin@0#30=await:", crash, "\""));
    killed_ = Queue("killed", kShorter, kSafe, "ISTHMUS_FAULTS=step.begin@1#15=kill");
    if (!WaitForSteps(crashed_, "crashed", 25)) return;
    const std::string nodes = cluster_->Field(crashed_, "NodeList");  // "node[3-4]"
    if (nodes.size() < 2) return;
    crashed_node_ = absl::StrCat("node", nodes.substr(nodes.size() - 2, 1));
    cluster_->Crash(crashed_node_);
    WriteText(crash, "");
  }
  static void TearDownTestSuite() {
    delete project_;
    delete cluster_;
  }
  void SetUp() override {
    if (cluster().state().starts_with("skipped: ")) GTEST_SKIP() << cluster().state();
    ASSERT_EQ(cluster().state(), "ready");
  }
  static SlurmCluster& cluster() { return *cluster_; }
  static TinyProject& project() { return *project_; }

  // A step takes at least a tenth of a second, without work. That sets the length of the run, and leaves the machine to
  // other work.
  static constexpr const char* kPause = "ISTHMUS_FAULTS=step.begin@0#*=sleep:0.1";
  // These are more steps than fit in the half minute, and fewer than in the limit after that.
  static constexpr const char* kSlow = "--set schedule.steps=340";
  static constexpr const char* kShort = "--set schedule.steps=100";
  // A rank that dies at its 15th step in every start leaves a checkpoint the first time, and only ten steps to go.
  static constexpr const char* kShorter = "--set schedule.steps=20 --set checkpoint.background=false";
  static constexpr const char* kEndless = "--set schedule.steps=1000000";

  // No test crashes these nodes.
  static constexpr const char* kSafe = "--sbatch=--nodelist=node[1-2] ";

  // Queues a run in the project's folder `name`, a rank on each of two nodes.
  static std::string Queue(const std::string& name, const std::string& more, const std::string& options,
                           const std::string& environment) {
    return cluster().Submit(
        ProgramWithFaultsPath(),
        absl::StrCat("--config ", project().WriteConfig(name), " --nodes 2 ", kSettings, more, " ", options),
        environment);
  }
  static bool Exists(const std::string& path) { return std::filesystem::exists(path); }
  // Waits until the job's run in the folder `name` has trained so many steps; false when it never will.
  static bool WaitForSteps(const std::string& job, const std::string& name, int steps) {
    return WaitUntil(job, [&] {
      const std::string text = ReadText(project() / name + "/metrics.jsonl");
      return std::count(text.begin(), text.end(), '\n') > steps;
    });
  }
  // Waits until the log of the job's rank 0 has the text; false when it never will.
  static bool WaitForText(const std::string& job, const std::string& text) {
    return WaitUntil(job,
                     [&] { return ReadText(cluster().LogOf(job + "-rank-0000.log")).find(text) != std::string::npos; });
  }
  template <typename IsSo>
  static bool WaitUntil(const std::string& job, const IsSo& is_so) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(kPatience);
    for (bool over = job.empty(); !over;) {
      const std::string state = cluster().Field(job, "JobState");
      over = state == "COMPLETED" || state == "FAILED" || state == "CANCELLED" || state == "TIMEOUT" ||
             std::chrono::steady_clock::now() > end;
      if (is_so()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    return false;
  }
  static std::string JobLog(const std::string& job) { return ReadText(cluster().LogOf(job + ".log")); }
  // Expects that the run in folder `name` is, in every loss, that of an uninterrupted one of as many steps.
  static void ExpectLossesOfAnUninterruptedRun(const std::string& name, const std::string& more) {
    const std::string whole = name + "-whole";
    const ProgramResult result =
        RunIsthmus(absl::StrCat("train --config ", project().WriteConfig(whole), " ", kSettings, more), 2);
    ASSERT_EQ(result.exit_status, 0) << result.out;
    const auto expected = Losses(project() / whole);
    ASSERT_GT(expected.size(), 0u);
    EXPECT_EQ(Losses(project() / name), expected);
  }

  static std::string limited_, crashed_, crashed_node_, killed_;

 private:
  static constexpr const char* kSettings =
      "--set mesh.tensor=2 --set telemetry.validation_interval=0 --set telemetry.interval=0 "
      "--set telemetry.tensorboard=false --set checkpoint.interval=10 ";
  static SlurmCluster* cluster_;
  static TinyProject* project_;
};
SlurmCluster* Slurm::cluster_ = nullptr;
TinyProject* Slurm::project_ = nullptr;
std::string Slurm::limited_, Slurm::crashed_, Slurm::crashed_node_, Slurm::killed_;

TEST_F(Slurm, TasksThatMpiDoesNotKnowOfAreRefused) {
  const ProgramResult result = cluster().Run(
      absl::StrCat("srun --nodelist=node1 -n 2 ", ProgramPath(), " train --config ", project().WriteConfig("alone")));
  EXPECT_EQ(result.exit_status, 2) << result.out;
  EXPECT_THAT(result.out,
              HasSubstr("Slurm started 2 tasks, but not so that MPI knows of them; start with `srun --mpi=pmix`"));
  EXPECT_FALSE(Exists(project() / "alone"));
}

TEST_F(Slurm, WhatWouldFailAgainIsNotQueuedAgain) {
  const std::string job = Queue("wrong", "--set model.heads=5", kSafe, "");
  ASSERT_TRUE(cluster().WaitFor(job, "JobState", "FAILED")) << cluster().Describe(job);
  EXPECT_EQ(cluster().Field(job, "ExitCode"), "2:0");
  EXPECT_EQ(cluster().Field(job, "Restarts"), "0");
  EXPECT_THAT(ReadText(cluster().LogOf(job + "-rank-0000.log")), HasSubstr("model.heads"));
}

TEST_F(Slurm, ACancelledJobSavesAndDoesNotComeBack) {
  const std::string job = Queue("cancelled", kEndless, kSafe, kPause);
  ASSERT_TRUE(WaitForSteps(job, "cancelled", 3)) << cluster().Describe(job);
  EXPECT_EQ(cluster().Run("scancel " + job).exit_status, 0);
  ASSERT_TRUE(cluster().WaitFor(job, "JobState", "CANCELLED")) << cluster().Describe(job);
  EXPECT_EQ(cluster().Field(job, "Restarts"), "0");
  EXPECT_THAT(JobLog(job), HasSubstr("not queued again: the job was cancelled"));
  EXPECT_THAT(ReadText(cluster().LogOf(job + "-rank-0000.log")), HasSubstr("stopped by SIGTERM after step "));
  EXPECT_EQ(RunIsthmus("checkpoint verify " + (project() / "cancelled")).exit_status, 0);
}

// The signal goes to the script, which asks the ranks to save and gives them the time they need.
TEST_F(Slurm, AnInterruptedJobSavesAndDoesNotComeBack) {
  const std::string job = Queue("interrupted", kEndless, kSafe, kPause);
  ASSERT_TRUE(WaitForSteps(job, "interrupted", 3)) << cluster().Describe(job);
  EXPECT_EQ(cluster().Run("scancel --batch --signal=INT " + job).exit_status, 0);
  ASSERT_TRUE(cluster().WaitFor(job, "JobState", "FAILED")) << cluster().Describe(job);
  EXPECT_EQ(cluster().Field(job, "ExitCode"), "5:0");
  EXPECT_THAT(ReadText(cluster().LogOf(job + "-rank-0000.log")), HasSubstr("stopped by SIGUSR1 after step "));
}

TEST_F(Slurm, AJobIsQueuedAgainNoMoreOftenThanAllowed) {
  const std::string job = Queue("bounded", kEndless, absl::StrCat("--max-requeues 0 ", kSafe), kPause);
  ASSERT_TRUE(WaitForSteps(job, "bounded", 3)) << cluster().Describe(job);
  EXPECT_EQ(cluster().Run("scancel --signal=USR1 " + job).exit_status, 0);
  ASSERT_TRUE(cluster().WaitFor(job, "JobState", "FAILED")) << cluster().Describe(job);
  EXPECT_EQ(cluster().Field(job, "ExitCode"), "5:0");
  EXPECT_THAT(JobLog(job), HasSubstr("not queued again: that was done 0 times"));
}

TEST_F(Slurm, AfterARankWasKilledTheJobIsQueuedAgainAndLosesNothing) {
  ASSERT_TRUE(cluster().WaitFor(killed_, "JobState", "COMPLETED")) << cluster().Describe(killed_);
  // It restarts once for the kill; a busy machine may fail to start a rank besides.
  EXPECT_NE(cluster().Field(killed_, "Restarts"), "0");
  EXPECT_THAT(ReadText(cluster().LogOf(killed_ + "-rank-0000.log")), HasSubstr("continues after step 10"));
  ExpectLossesOfAnUninterruptedRun("killed", kShorter);
}

TEST_F(Slurm, ACrashedNodeIsReplacedAndNothingIsLost) {
  ASSERT_NE(crashed_node_, "") << cluster().Describe(crashed_);
  // Other nodes have room for it once Slurm knows; it may first be tried on the same ones in vain.
  ASSERT_TRUE(cluster().WaitFor(crashed_, "JobState", "COMPLETED")) << cluster().Describe(crashed_);
  EXPECT_NE(cluster().Field(crashed_, "Restarts"), "0");
  EXPECT_THAT(cluster().Field(crashed_, "NodeList"), Not(HasSubstr(crashed_node_.substr(4))));
  EXPECT_THAT(ReadText(cluster().LogOf(crashed_ + "-rank-0000.log")), HasSubstr("continues after step "));
  ExpectLossesOfAnUninterruptedRun("crashed", kShort);
}

TEST_F(Slurm, BeforeItsTimeLimitAJobSavesAndIsQueuedAgainAndLosesNothing) {
  // Ten seconds are for starting and a step. A slow machine needs several starts for that, and the rest has no limit.
  ASSERT_TRUE(WaitForText(limited_, "stopped by SIGUSR1 after step ")) << cluster().Describe(limited_);
  cluster().Run("scontrol update TimeLimit=60 JobId=" + limited_);
  ASSERT_TRUE(cluster().WaitFor(limited_, "JobState", "COMPLETED")) << cluster().Describe(limited_);
  EXPECT_NE(cluster().Field(limited_, "Restarts"), "0");
  EXPECT_THAT(JobLog(limited_), HasSubstr("status 5: stopped by a signal, all is saved"));
  for (const char* rank : {"0000", "0001"}) EXPECT_TRUE(Exists(cluster().LogOf(limited_ + "-rank-" + rank + ".log")));
  const std::string log = ReadText(cluster().LogOf(limited_ + "-rank-0000.log"));
  EXPECT_THAT(log, HasSubstr("stopped by SIGUSR1 after step "));
  EXPECT_THAT(log, HasSubstr("continues after step "));
  ExpectLossesOfAnUninterruptedRun("limited", kSlow);
}

}  // namespace
}  // namespace isthmus::testing
