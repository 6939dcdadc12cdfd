// A sweep as a job array, under a real Slurm: it is completed, whatever happens to its tasks.
#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>
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

class SlurmSweep : public ::testing::Test {
 protected:
  // A sweep that loses a rank in each start, and one whose node crashes, wait for Slurm most of the time. They begin first.
  static void SetUpTestSuite() {
    cluster_ = new SlurmCluster;
    if (cluster_->state() != "ready") return;
    project_ = new TinyProject;
    project_->WriteConfig("base");
    // At step 30 both runs wait for the crash. By then their checkpoints of step 10 are complete.
    const std::string crash = *project_ / "crash";
    crashed_ = Queue("crashed", 40, "--jobs 2 --set checkpoint.interval=10",
                     absl::StrCat("\"", kPause, ";step.begin@0#30=await:", crash, "\""));
    if (WaitForSteps("crashed", 25)) {
      crashed_node_ = cluster_->Field(crashed_ + "_0", "NodeList");
      cluster_->Crash(crashed_node_);
      WriteText(crash, "");
    }
    lost_ = Queue("lost", 8, "--tasks-per-node 2 --set mesh.tensor=2", "ISTHMUS_FAULTS=step.begin@1#2=kill");
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

  // Writes a sweep in the folder `name`, and returns its file.
  static std::string Write(const std::string& name, int steps) {
    const std::string path = project() / (name + "-sweep.textproto");
    WriteText(path, absl::StrCat("base: 'base.textproto' folder: '", project() / name, "' set: 'schedule.steps=", steps,
                                 "' set: 'telemetry.tensorboard=false' set: 'telemetry.interval=0' seeds: 1 "
                                 "arms { name: 'full' } arms { name: 'rank-4' set: 'model.head.rank=4' }"));
    return path;
  }
  // Queues it, on nodes that have not crashed. Returns the number of the array.
  static std::string Queue(const std::string& name, int steps, const std::string& options,
                           const std::string& environment = "") {
    const std::string sound = crashed_node_.empty() ? "" : " --sbatch=--exclude=" + crashed_node_;
    return cluster().Submit(ProgramWithFaultsPath(), absl::StrCat("--sweep ", Write(name, steps), " ", options, sound),
                            environment);
  }
  static std::string RunOf(const std::string& name, const std::string& arm) {
    return absl::StrCat(project() / name, "/", arm, "/seed-1");
  }
  // Waits until both arms have trained more than so many steps; false when they never will.
  static bool WaitForSteps(const std::string& name, int steps = 3) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(kPatience);
    const auto trained = [&](const char* arm) {
      const std::string text = ReadText(RunOf(name, arm) + "/metrics.jsonl");
      return std::count(text.begin(), text.end(), '\n') > steps;
    };
    while (!trained("full") || !trained("rank-4")) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    return true;
  }
  // Without what the clock says.
  static nlohmann::json Results(const std::string& name) {
    auto results =
        nlohmann::json::parse(ReadText(project() / name + "/results.json"), nullptr, /*allow_exceptions=*/false);
    for (auto& arm : results["arms"]) {
      if (arm.contains("factors")) arm["factors"].erase("seconds");
    }
    return results;
  }
  static std::string LogOf(const std::string& task) { return ReadText(cluster().LogOf(task + ".log")); }

  static constexpr const char* kPause = "ISTHMUS_FAULTS=step.begin@0#*=sleep:0.1";
  static constexpr int kEndless = 1000000;
  static std::string lost_, crashed_, crashed_node_;

 private:
  static SlurmCluster* cluster_;
  static TinyProject* project_;
};
SlurmCluster* SlurmSweep::cluster_ = nullptr;
TinyProject* SlurmSweep::project_ = nullptr;
std::string SlurmSweep::lost_, SlurmSweep::crashed_, SlurmSweep::crashed_node_;

TEST_F(SlurmSweep, TwoTasksCompleteItAndOneThatIsQueuedAgainGoesOn) {
  constexpr int kRunSteps = 100;
  const std::string array = Queue("shared", kRunSteps, "--workers 2 --tasks-per-node 2 --set mesh.tensor=2", kPause);
  ASSERT_TRUE(WaitForSteps("shared")) << cluster().Describe(array);
  EXPECT_EQ(cluster().Run(absl::StrCat("scancel --batch --signal=USR1 ", array, "_1")).exit_status, 0);
  for (const char* task : {"_0", "_1"}) {
    ASSERT_TRUE(cluster().WaitFor(array + task, "JobState", "COMPLETED")) << cluster().Describe(array);
  }
  // The last task has the number of the whole array: the others must not be queued again with it.
  EXPECT_EQ(cluster().Field(array + "_0", "Restarts"), "0");
  EXPECT_EQ(cluster().Field(array + "_1", "Restarts"), "1");
  EXPECT_THAT(LogOf(array + "_1"), HasSubstr("SIGUSR1: the sweep's runs have saved"));
  EXPECT_THAT(LogOf(array + "_1"), HasSubstr("queued again"));
  const std::string logs =
      ReadText(RunOf("shared", "full") + "/sweep.log") + ReadText(RunOf("shared", "rank-4") + "/sweep.log");
  EXPECT_THAT(logs, HasSubstr("stopped by SIGUSR1 after step "));
  EXPECT_THAT(logs, HasSubstr("continues after step "));

  // The results are those of the same runs without Slurm, which nothing interrupts.
  const ProgramResult alone = RunShell(absl::StrCat(
      "export OMP_NUM_THREADS=1\n", ProgramPath(), " sweep --config ", Write("alone", kRunSteps), " --launcher \"",
      LauncherPath(), " --allow-run-as-root --oversubscribe --bind-to none -n 2\" --set mesh.tensor=2"));
  ASSERT_EQ(alone.exit_status, 0) << alone.out;
  EXPECT_EQ(Results("shared"), Results("alone"));
  EXPECT_EQ(Results("shared")["arms"].size(), 2u);
}

// Slurm itself signals every process of the job then: the sweep, its launchers, its runs and their ranks.
TEST_F(SlurmSweep, ACancelledOneSavesItsRunsAndDoesNotComeBack) {
  const std::string shared = Queue("cores", kEndless, "--jobs 2 --cpus-per-task 2", kPause);
  const std::string ranks = Queue("ranks", kEndless, "--workers 2 --tasks-per-node 2 --set mesh.tensor=2", kPause);
  ASSERT_TRUE(WaitForSteps("cores")) << cluster().Describe(shared);
  ASSERT_TRUE(WaitForSteps("ranks")) << cluster().Describe(ranks);
  EXPECT_EQ(cluster().Run(absl::StrCat("scancel ", shared, " ", ranks)).exit_status, 0);
  for (const std::string& task : {shared + "_0", ranks + "_0", ranks + "_1"}) {
    ASSERT_TRUE(cluster().WaitFor(task, "JobState", "CANCELLED")) << cluster().Describe(task);
    EXPECT_EQ(cluster().Field(task, "Restarts"), "0");
    EXPECT_THAT(LogOf(task), HasSubstr("not queued again: the job was cancelled"));
  }
  for (const char* name : {"cores", "ranks"}) {
    for (const char* arm : {"full", "rank-4"}) {
      EXPECT_THAT(ReadText(RunOf(name, arm) + "/sweep.log"), HasSubstr("stopped by SIGTERM after step "));
      EXPECT_EQ(RunIsthmus("checkpoint verify " + RunOf(name, arm)).exit_status, 0) << name << " " << arm;
      EXPECT_FALSE(std::filesystem::exists(RunOf(name, arm) + "/sweep.json")) << name << " " << arm;
    }
  }
}

TEST_F(SlurmSweep, AnInterruptedOneSavesItsRunsAndDoesNotComeBack) {
  const std::string array = Queue("interrupted", kEndless, "--jobs 2", kPause);
  ASSERT_TRUE(WaitForSteps("interrupted")) << cluster().Describe(array);
  EXPECT_EQ(cluster().Run("scancel --batch --signal=INT " + array).exit_status, 0);
  ASSERT_TRUE(cluster().WaitFor(array + "_0", "JobState", "FAILED")) << cluster().Describe(array);
  EXPECT_EQ(cluster().Field(array + "_0", "ExitCode"), "5:0");
  EXPECT_EQ(RunIsthmus("checkpoint verify " + RunOf("interrupted", "full")).exit_status, 0);
}

TEST_F(SlurmSweep, FailedRunsAreTheStatusOfAJobThatDoesNotComeBack) {
  const std::string array = Queue("failed", 2, "--set data.validation=/nowhere");
  ASSERT_TRUE(cluster().WaitFor(array + "_0", "JobState", "FAILED")) << cluster().Describe(array);
  EXPECT_EQ(cluster().Field(array + "_0", "ExitCode"), "2:0");
  EXPECT_EQ(cluster().Field(array + "_0", "Restarts"), "0");
  EXPECT_THAT(LogOf(array + "_0"), HasSubstr("2 runs failed; --retry-failed runs them again"));
}

TEST_F(SlurmSweep, AfterItsNodeCrashedATaskGoesOnElsewhere) {
  ASSERT_NE(crashed_node_, "") << cluster().Describe(crashed_);
  ASSERT_TRUE(cluster().WaitFor(crashed_ + "_0", "JobState", "COMPLETED")) << cluster().Describe(crashed_);
  EXPECT_NE(cluster().Field(crashed_ + "_0", "Restarts"), "0");
  for (const char* arm : {"full", "rank-4"}) {
    EXPECT_THAT(ReadText(RunOf("crashed", arm) + "/sweep.log"), HasSubstr("continues after step "));
  }
  EXPECT_EQ(Results("crashed")["arms"].size(), 2u);
}

// A run that loses a rank in each start has the task queued again three times. Then it counts as failed, and the other
// run has its turn.
TEST_F(SlurmSweep, ALostRunHasTheTaskQueuedAgainAndDoesNotKeepOthersForever) {
  ASSERT_TRUE(cluster().WaitFor(lost_ + "_0", "JobState", "FAILED")) << cluster().Describe(lost_);
  EXPECT_EQ(cluster().Field(lost_ + "_0", "ExitCode"), "2:0");
  // Each of two runs has three tries more. Slurm may queue the task again besides, when a busy node does not answer.
  EXPECT_GE(std::stoi(cluster().Field(lost_ + "_0", "Restarts")), 6);
  EXPECT_THAT(LogOf(lost_ + "_0"), HasSubstr("full/seed-1: lost (3 of 3 times before it counts as failed)"));
  EXPECT_THAT(LogOf(lost_ + "_0"), HasSubstr("rank-4/seed-1: lost (1 of 3 times"));
  EXPECT_THAT(LogOf(lost_ + "_0"), HasSubstr("2 runs failed"));
}

}  // namespace
}  // namespace isthmus::testing
