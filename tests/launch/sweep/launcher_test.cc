// How runs are started, and which variables they get.
#include "launch/sweep/launcher.h"

#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include "launch/sweep/lost_runs.h"
#include "tests/support/program.h"

namespace isthmus::testing {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::UnorderedElementsAreArray;

using Variables = std::vector<std::string>;

sweep::Launcher LauncherOf(const std::string& line) {
  auto launcher = sweep::Launcher::Of(line);
  EXPECT_TRUE(launcher.ok()) << launcher.status();
  return *launcher;
}

// Every run gets these: a user has set them, or they describe the allocation.
const Variables kKept = {"HOME=/root",           "SLURM_JOB_ID=7", "SLURM_NTASKS=8", "SLURM_JOB_NODELIST=node[1-4]",
                         "OMPI_MCA_btl=^openib", "NCCL_DEBUG=WARN"};

Variables With(const Variables& more) {
  Variables all = kKept;
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

TEST(SweepLauncherLine, IsSplitAtBlanks) {
  const sweep::Launcher launcher = LauncherOf("  env\tA=1  B='2 3' ");
  EXPECT_TRUE(launcher.launches());
  const Variables line = launcher.LineOf({{"train", "--config", "a b"}});
  ASSERT_EQ(line.size(), 8u);
  EXPECT_THAT(Variables(line.begin(), line.begin() + 4), ElementsAre("env", "A=1", "B='2", "3'"));
  EXPECT_TRUE(std::filesystem::equivalent(line[4], "/proc/self/exe")) << line[4];
  EXPECT_THAT(Variables(line.begin() + 5, line.end()), ElementsAre("train", "--config", "a b"));
  EXPECT_THAT(launcher.file(), HasSubstr("/env"));
  EXPECT_EQ(launcher.StopSignal(), SIGUSR1);
}

TEST(SweepLauncherLine, MayBeNone) {
  const sweep::Launcher launcher = LauncherOf("none");
  EXPECT_FALSE(launcher.launches());
  EXPECT_THAT(launcher.LineOf({{"train"}}), ElementsAre("isthmus", "train"));
  EXPECT_EQ(launcher.StopSignal(), SIGTERM);
}

TEST(SweepLauncherLine, NeedsAProgram) {
  const TemporaryFolder folder;
  WriteText(folder / "text", "no program");
  for (const std::string& line : {std::string(), std::string(" \t"), std::string("no-such-launcher -n 2"),
                                  std::string("/"), folder.path(), folder / "text", folder / "nowhere"}) {
    const auto launcher = sweep::Launcher::Of(line);
    EXPECT_EQ(launcher.status().code(), absl::StatusCode::kInvalidArgument) << line;
    EXPECT_THAT(std::string(launcher.status().message()),
                HasSubstr(absl::StrCat("isthmus sweep --launcher: found \"", line, "\"")));
  }
}

TEST(SweepLauncherLine, ALoneRunIsNobodysRankAndHasItsThreads) {
  const Variables found =
      LauncherOf("none").EnvironmentOf(With({"OMP_NUM_THREADS=16", "OMPI_COMM_WORLD_RANK=1", "PMIX_RANK=1", "PMI_FD=3",
                                             "SLURM_PROCID=1", "SLURM_STEP_NUM_TASKS=2"}),
                                       4);
  EXPECT_THAT(found, UnorderedElementsAreArray(With({"OMP_NUM_THREADS=4"})));
}

TEST(SweepLauncherLine, OfALauncherGetsTheAllocationAndTheUsersThreads) {
  const Variables own = {"OMP_NUM_THREADS=16", "OMPI_MCA_orte_tmpdir_base=/scratch", "PMIX_MCA_gds=hash",
                         "SLURM_CPU_BIND=none"};
  Variables given = With(own);
  given.emplace_back("SLURM_PROCID=0");  // of a batch script
  EXPECT_THAT(LauncherOf("env").EnvironmentOf(given, 4), UnorderedElementsAreArray(With(own)));
}

TEST(SweepLauncherLine, OfALauncherForgetsTheStepAndTheMpirunThatStartedTheSweep) {
  const sweep::Launcher launcher = LauncherOf("env");
  EXPECT_THAT(launcher.EnvironmentOf(With({"SLURM_STEP_ID=3", "SLURM_STEPID=3", "SLURM_STEP_NUM_TASKS=2",
                                           "SLURM_CPU_BIND=quiet,mask_cpu:0x1", "SLURM_SRUN_COMM_PORT=1",
                                           "SLURM_PROCID=1", "PMIX_NAMESPACE=slurm.pmix.4.0", "SLURM_LOCALID=1"}),
                                     4),
              UnorderedElementsAreArray(kKept));
  EXPECT_THAT(launcher.EnvironmentOf(With({"OMPI_COMM_WORLD_SIZE=2", "OMPI_UNIVERSE_SIZE=2", "OMPI_MCA_ess=^singleton",
                                           "OMPI_MCA_orte_hnp_uri=1", "OMPI_MCA_pmix=^s1", "PMIX_RANK=0"}),
                                     4),
              UnorderedElementsAreArray(kKept));
}

TEST(SweepLostRuns, AreThoseThatGoOnWhenTheyAreStartedAgain) {
  for (const int status : {0, 2, 3}) EXPECT_FALSE(sweep::IsLost(status)) << status;
  for (const int status : {1, 4, 5, 127, 137}) EXPECT_TRUE(sweep::IsLost(status)) << status;
}

TEST(SweepLostRuns, AreCountedUntilTheyAreForgotten) {
  const TemporaryFolder folder;
  for (int64_t count = 1; count <= 3; ++count) EXPECT_EQ(*sweep::CountLoss(folder.path()), count);
  EXPECT_TRUE(sweep::ForgetLosses(folder.path()).ok());
  EXPECT_TRUE(sweep::ForgetLosses(folder.path()).ok());
  EXPECT_EQ(*sweep::CountLoss(folder.path()), 1);
  for (const std::string& text : {std::string("-7"), std::string("many"), std::string(1000, '9')}) {
    WriteText(folder / "lost", text);
    EXPECT_EQ(*sweep::CountLoss(folder.path()), 1) << text;
  }
}

}  // namespace
}  // namespace isthmus::testing
