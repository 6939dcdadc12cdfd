// A disk that fails costs a checkpoint, a line in the log and a count in the metrics, never the run.
// tests/launch/resume_test.cc tests a full disk.
#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "checkpoint/manifest.h"
#include "checkpoint/verify.h"
#include "tests/support/paths.h"
#include "tests/support/program.h"
#include "tests/support/run_folder.h"
#include "tests/support/watched_run.h"

namespace isthmus::testing {
namespace {

using ::testing::ContainsRegex;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class DiskFaults : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { project_ = new TinyProject; }
  static void TearDownTestSuite() { delete project_; }
  static const TinyProject& project() { return *project_; }
  static std::string Train(const std::string& name, const std::string& more) {
    return absl::StrCat("train --config ", project().WriteConfig(name), " --set checkpoint.interval=5 ", more);
  }

  // Before each of these steps of this start, counted from 1, the program stops itself until the command has been run.
  static ProgramResult RunWithChanges(const std::string& arguments, const std::map<int, std::string>& changes) {
    const std::string log = project() / absl::StrCat("points-", ++logs_);
    std::string faults, commands;
    for (const auto& [step, command] : changes) {
      absl::StrAppend(&faults, "step.begin#", step, "=stop;");
      absl::StrAppend(
          &commands, "until [ $(grep -c step.begin ", log, ".0) -ge ", step,
          " ] && grep -q \"^State:.T\" /proc/$program/status; do kill -0 $program || exit 9; sleep 0.02; done; ",
          command, " && kill -CONT $program; ");
    }
    return RunShell(absl::StrCat("ISTHMUS_FAULTS=\"", faults, "\" ISTHMUS_FAULT_LOG=", log, " OMP_NUM_THREADS=1 ",
                                 ProgramWithFaultsPath(), " ", arguments, " & program=$!; ", commands,
                                 "wait $program"));
  }

  // Returns the steps of the run's checkpoints at its end, and expects all of them to be sound.
  static std::set<int64_t> SoundSteps(const std::string& run) {
    std::set<int64_t> steps;
    const auto stored = *ListCheckpoints(run);
    for (const StoredCheckpoint& one : stored) {
      EXPECT_THAT(VerifyCheckpoint(one.folder).problems, IsEmpty());
      steps.insert(one.step);
    }
    EXPECT_THAT(VerifyCheckpoint(run + "/checkpoints/latest").problems, IsEmpty());
    return steps;
  }
  // Returns the figures `key` of all records, without repetition.
  static std::set<int64_t> Figures(const std::string& run, const std::string& key) {
    std::set<int64_t> found;
    for (const auto& record : Records(run)) {
      if (record.contains(key)) found.insert(record[key].get<int64_t>());
    }
    return found;
  }

 private:
  static TinyProject* project_;
  static int logs_;
};
TinyProject* DiskFaults::project_ = nullptr;
int DiskFaults::logs_ = 0;

// The checkpoints' folder is a file system of its own. It becomes read-only between two steps, as disks with errors do,
// and is repaired five steps later.
TEST_F(DiskFaults, AReadOnlyDiskCostsTheCheckpointsUntilItIsRepaired) {
  const std::string run = project() / "read-only", disk = run + "/checkpoints";
  std::filesystem::create_directories(disk);
  if (geteuid() != 0 || mount("isthmus-test", disk.c_str(), "tmpfs", 0, "size=64m") != 0) {
    GTEST_SKIP() << "needs root and the right to mount a tmpfs";
  }
  const ProgramResult result = RunWithChanges(
      Train("read-only", "--set checkpoint.background=false"),
      {{12, absl::StrCat("mount -o remount,ro ", disk)}, {17, absl::StrCat("mount -o remount,rw ", disk)}});
  EXPECT_EQ(result.exit_status, 0) << result.out;
  EXPECT_THAT(SoundSteps(run), ElementsAre(5, 10, 20));
  EXPECT_THAT(Figures(run, "checkpoint/step"), ElementsAre(5, 10, 20));
  EXPECT_THAT(Figures(run, "checkpoint/failed_total"), ElementsAre(1));
  EXPECT_EQ(Losses(run).size(), 20u);
  const std::string said = ReadText(run + "/log/rank-0000.log");
  EXPECT_THAT(said, HasSubstr("no checkpoint of step 15: "));
  EXPECT_THAT(said, HasSubstr("Read-only file system"));
  umount2(disk.c_str(), MNT_DETACH);
}

// A limit on a file's size fails as a quota does, in the middle of a write, and without a privilege to set it.
TEST_F(DiskFaults, ALimitOfTheUserCostsCheckpointsAndNotTheRun) {
  const std::string run = project() / "limited";
  ASSERT_EQ(RunIsthmus(Train("limited", "--set schedule.steps=5")).exit_status, 0);
  // The limit holds from the first step on, because MPI has files of its own.
  const std::map<int, std::string> limit = {{1, "prlimit --pid $program --fsize=262144"}};
  const ProgramResult result =
      RunWithChanges(Train("limited", "--resume auto --set checkpoint.save_final=false"), limit);
  EXPECT_EQ(result.exit_status, 0) << result.out;
  EXPECT_THAT(SoundSteps(run), ElementsAre(5));
  // Two that fail between two records are told together.
  ASSERT_FALSE(Figures(run, "checkpoint/failed_total").empty());
  EXPECT_EQ(*Figures(run, "checkpoint/failed_total").rbegin(), 2);
  EXPECT_EQ(Losses(run).size(), 20u);
  EXPECT_THAT(ReadText(run + "/log/rank-0000.log"), HasSubstr("rank-0000.tensors: can't write: File too large"));
  EXPECT_FALSE(std::filesystem::exists(run + "/checkpoints/step-00000010.tmp"));
  // A run exists for its last checkpoint, so losing that is an error. The run can still be continued from earlier ones.
  const ProgramResult last = RunWithChanges(Train("limited", "--resume auto"), limit);
  EXPECT_EQ(last.exit_status, 2) << last.out;
  EXPECT_EQ(last.Count("File too large; free space or choose another folder"), 1) << last.out;
  // A signal that asks for a checkpoint when there is no room is reported, and worth another start. The program may
  // take some steps more before it has the signal.
  const ProgramResult stopped = RunWithChanges(Train("limited", "--resume auto --set schedule.steps=100000"),
                                               {{1, limit.at(1)}, {2, "kill -TERM $program"}});
  EXPECT_EQ(stopped.exit_status, 4) << stopped.out;
  EXPECT_THAT(stopped.out, ContainsRegex("stopped by SIGTERM, but step [0-9]+ could not be saved: "));
  EXPECT_EQ(stopped.Count("File too large; free space or choose another folder; the newest checkpoint is " + run +
                          "/checkpoints/step-00000005"),
            1)
      << stopped.out;
  const ProgramResult again = RunIsthmus(Train("limited", "--resume auto"));
  EXPECT_EQ(again.exit_status, 0) << again.out;
  EXPECT_EQ(again.Count("continues after step 5"), 1) << again.out;
}

// A new copy over the shard cuts it, and so do some errors of a disk.
TEST_F(DiskFaults, ATokenShardThatIsCutCostsNothingThatWasTrained) {
  const std::string shard = project() / "cut.ids", run = project() / "cut";
  std::filesystem::copy_file(project() / "tokens/train/00000.ids", shard);
  const ProgramResult result = RunWithChanges(
      Train("cut", absl::StrCat("--set schedule.steps=1000 --set checkpoint.interval=0 --set data.train=", shard,
                                " --set telemetry.validation_interval=0")),
      {{6, absl::StrCat("truncate -s 200 ", shard)}});
  EXPECT_EQ(result.exit_status, 2) << result.out;
  EXPECT_EQ(result.Count(shard + ": ends at byte"), 1) << result.out;
  const auto steps = static_cast<int64_t>(Losses(run).size());
  EXPECT_GE(steps, 5);
  EXPECT_THAT(SoundSteps(run), ElementsAre(steps));
}

// These are deadlines of the two tests below: ten seconds with kHaste for steps, and far more than is needed for all
// else.
constexpr const char* kDeadlines =
    "--set mesh.data=2 --set mesh.collective_timeout_seconds=3600 --set mesh.setup_timeout_seconds=1000000 ";
constexpr double kHaste = 360, kLongerThanADeadline = 12;

// The disk of one rank takes longer for a write than collectives may take, and than many steps do.
TEST_F(DiskFaults, ASlowDiskHoldsUpTheNextCheckpointAlone) {
  const std::string name = "slow", disk = project() / "slow.disk", phase = "saving a checkpoint";
  WatchedRun run(project() / name, absl::StrCat("checkpoint.write@0#5=await:", disk),
                 Train(name, absl::StrCat("--set checkpoint.interval=20 --set schedule.steps=45 ", kDeadlines,
                                          "--set telemetry.validation_interval=0")),
                 2);
  // The checkpoint of step 40 waits for that of step 20.
  run.AwaitWait(1, 40, phase, 1);
  run.SetHaste(kHaste);
  run.AwaitWait(1, 40, phase, kLongerThanADeadline);
  run.SetHaste(1);
  WriteText(disk, "");
  const ProgramResult& result = run.Result();
  EXPECT_EQ(result.exit_status, 0) << result.out;
  EXPECT_THAT(SoundSteps(project() / name), ElementsAre(20, 40, 45));
  EXPECT_THAT(Figures(project() / name, "checkpoint/failed_total"), IsEmpty());
  int on_the_way = 0;
  bool told = false;
  for (const auto& record : Records(project() / name)) {
    const double written = record.value("checkpoint/written_ratio", 0.0);
    EXPECT_LE(written, 1);
    if (written > 0 && written < 1 && !record.contains("checkpoint/step")) ++on_the_way;
    if (record.value("checkpoint/step", 0) != 20) continue;
    told = true;
    EXPECT_GE(record["step"], 40);  // training went on meanwhile
    EXPECT_GE(record["checkpoint/save_seconds"], kLongerThanADeadline - 0.1);
  }
  EXPECT_TRUE(told);
  EXPECT_GT(on_the_way, 5);
}

// Rank 0 alone removes old checkpoints and writes the head's tensors; the other one waits longer than for a step.
TEST_F(DiskFaults, WhatRankZeroDoesSlowlyForAllEndsNoRun) {
  const std::string name = "slow-rank", dump = project() / "slow-rank.dump", old = project() / "slow-rank.old";
  WatchedRun run(project() / name, absl::StrCat("checkpoint.rotate@0=await:", old, ";file.sync@0#2=await:", dump),
                 Train(name, absl::StrCat("--set schedule.steps=12 --set checkpoint.background=false "
                                          "--set checkpoint.keep=1 --set telemetry.dump_step=3 ",
                                          kDeadlines)),
                 2);
  // As long as rank 0 is held, its other collectives can't be late: there are none.
  const auto hold_up = [&](int64_t step, const std::string& file) {
    const auto waits = [&](double seconds) {
      return run.Await(1, [&](const Heartbeat& beat) {
        return beat.step == step && beat.waiting.has_value() && beat.waiting->waited >= seconds;
      });
    };
    waits(1);
    run.SetHaste(kHaste);
    waits(kLongerThanADeadline);
    run.SetHaste(1);
    WriteText(file, "");
  };
  hold_up(3, dump);
  hold_up(10, old);
  const ProgramResult& result = run.Result();
  EXPECT_EQ(result.exit_status, 0) << result.out;
  EXPECT_EQ(SoundSteps(project() / name).count(5), 0u) << "nothing was removed";
  EXPECT_TRUE(std::filesystem::exists(project() / name + "/head-step-00000003/counts.npy"));
}

}  // namespace
}  // namespace isthmus::testing
