// Ranks may see different files: a disk is not mounted on one node, or another node has a folder of the same name. A
// rank's finding alone is no reason to touch files that others can read.
#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <string>

#include "checkpoint/manifest.h"
#include "tests/support/paths.h"
#include "tests/support/program.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;

constexpr char kEveryFive[] = " --set mesh.tensor=2 --set checkpoint.interval=5 --set checkpoint.keep=9 ";

// Each rank runs in a folder of its own, and finds run/ there.
class Views : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    setenv("OMPI_MCA_odls_base_sigkill_timeout", "0", /*replace=*/1);
    project_ = new TinyProject;
    ASSERT_EQ(
        RunIsthmus(
            absl::StrCat("train --config ", project_->WriteConfig("whole"), kEveryFive, "--set schedule.steps=10"), 2)
            .exit_status,
        0);
  }
  static void TearDownTestSuite() { delete project_; }

  Views() {
    std::filesystem::remove_all(*project_ / "views");
    std::filesystem::remove_all(*project_ / "run");
    std::filesystem::copy(*project_ / "whole", *project_ / "run",
                          std::filesystem::copy_options::recursive | std::filesystem::copy_options::copy_symlinks);
    for (const int rank : {0, 1}) std::filesystem::create_directories(View(rank, ""));
    std::filesystem::create_directory_symlink(*project_ / "run", View(0, "run"));
    // The other rank's run consists of links, some of which a test changes.
    std::filesystem::create_directories(View(1, "run/checkpoints"));
    for (const char* name : {"log", "checkpoints/step-00000005", "checkpoints/step-00000010"}) {
      std::filesystem::create_directory_symlink(*project_ / ("run/" + std::string(name)), View(1, "run/") + name);
    }
  }
  static std::string View(int rank, const std::string& name) {
    return absl::StrCat(*project_ / "views/", rank, "/", name);
  }
  static std::string Newest() { return View(1, "run/checkpoints/step-00000010"); }
  static ProgramResult Run(const std::string& arguments) {
    return RunShell(absl::StrCat("OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1 ",
                                 LauncherPath(), " --oversubscribe --bind-to none -n 2 sh -c \"cd ",
                                 *project_ / "views", "/\\$OMPI_COMM_WORLD_RANK && exec ", ProgramPath(), " ",
                                 arguments, "\""));
  }
  static ProgramResult Resume(const std::string& more = "--resume auto") {
    return Run(absl::StrCat("train --config ", project_->WriteConfig("viewed"), " --set folder=run", kEveryFive, more));
  }
  // All checkpoints still have their names, and no step was taken.
  static void ExpectNothingDone() {
    for (const char* step : {"step-00000005", "step-00000010"}) {
      EXPECT_TRUE(std::filesystem::exists(*project_ / "run/checkpoints/" + step)) << step;
    }
    EXPECT_EQ(ReadText(*project_ / "run/metrics.jsonl"), ReadText(*project_ / "whole/metrics.jsonl"));
  }

  static TinyProject* project_;
};
TinyProject* Views::project_ = nullptr;

TEST_F(Views, WhatOneRankCannotReadStopsAllAndIsNamed) {
  struct Case {
    const char* name;
    std::function<void()> change;
    const char* said;
  };
  const Case cases[] = {
      {"not there", [] { std::filesystem::remove_all(Newest()); },
       "rank 1: run/checkpoints/step-00000010/manifest.pb: can't open: No such file or directory; yet 1 of 2 ranks"},
      {"an empty folder", [] { std::filesystem::remove_all(View(1, "run/checkpoints")); },
       "rank 1: run/checkpoints/step-00000010/manifest.pb: can't open: No such file or directory; yet 1 of 2 ranks"},
      {"a loop",
       [] {
         std::filesystem::remove(Newest() + "/manifest.pb");
         std::filesystem::create_symlink("manifest.pb", Newest() + "/manifest.pb");
       },
       "rank 1: run/checkpoints/step-00000010/manifest.pb: can't open: Too many levels of symbolic links"},
      {"another run's",
       [] {
         auto manifest = *ReadManifest(Newest());
         manifest.set_tokens(7);
         ASSERT_TRUE(WriteManifest(Newest(), manifest).ok());
       },
       "rank 1 has another run/checkpoints/step-00000010/manifest.pb: checksum "},
      {"a damaged copy",
       [] {
         std::string bytes = ReadText(Newest() + "/rank-0001.tensors");
         bytes[bytes.size() / 2] ^= 1;
         WriteText(Newest() + "/rank-0001.tensors", bytes);
       },
       "the checksum is wrong: the file is damaged; use another checkpoint; yet 1 of 2 ranks read it"},
      {"a newer one",
       [] {
         const std::string newer = View(1, "run/checkpoints/step-00000015");
         std::filesystem::copy(Newest(), newer);
         auto manifest = *ReadManifest(Newest());
         manifest.set_step(15);
         manifest.set_version(kCheckpointVersion + 1);
         ASSERT_TRUE(WriteManifest(newer, manifest).ok());
       },
       "newer than this program, which reads versions 1 to 2"},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.name);
    std::filesystem::remove_all(View(1, "run/checkpoints"));
    std::filesystem::create_directories(View(1, "run/checkpoints"));
    std::filesystem::create_directory_symlink(*project_ / "run/checkpoints/step-00000005",
                                              View(1, "run/checkpoints/step-00000005"));
    std::filesystem::copy(*project_ / "run/checkpoints/step-00000010", Newest());
    one.change();
    const ProgramResult result = Resume();
    EXPECT_EQ(result.exit_status, 2) << result.out;
    EXPECT_THAT(result.out, HasSubstr(one.said));
    EXPECT_THAT(result.out, HasSubstr("nothing was started or changed"));
    ExpectNothingDone();
  }
}

TEST_F(Views, WhatRankZeroCannotSeeIsSeenByTheOther) {
  std::filesystem::remove(View(0, "run"));
  std::filesystem::rename(View(1, "run"), View(0, "run"));
  std::filesystem::create_directory_symlink(*project_ / "run", View(1, "run"));
  std::filesystem::remove(View(0, "run/checkpoints/step-00000010"));
  const ProgramResult result = Resume();
  EXPECT_EQ(result.exit_status, 2) << result.out;
  EXPECT_THAT(result.out, HasSubstr("rank 0: run/checkpoints/step-00000010/manifest.pb: can't open"));
  ExpectNothingDone();
  // A new run does not get the folder either.
  std::filesystem::remove(View(0, "run/checkpoints/step-00000005"));
  const ProgramResult begun = Resume("--resume never");
  EXPECT_EQ(begun.exit_status, 2) << begun.out;
  EXPECT_THAT(begun.out, HasSubstr("already holds a run"));
  ExpectNothingDone();
}

// A checkpoint that every rank finds damaged is passed over, even if only one rank needs the damaged part.
TEST_F(Views, WhatNoRankCanReadIsPassedOver) {
  std::filesystem::remove_all(View(1, "run"));
  std::filesystem::create_directory_symlink(*project_ / "run", View(1, "run"));
  std::filesystem::remove(*project_ / "run/checkpoints/step-00000010/rank-0001.tensors");
  const ProgramResult result = Resume("--resume auto --set schedule.steps=6");
  EXPECT_EQ(result.exit_status, 0) << result.out;
  EXPECT_EQ(result.Count("continues after step 5"), 1) << result.out;
  EXPECT_TRUE(std::filesystem::exists(*project_ / "run/checkpoints/step-00000010.set-aside"));
}

// Two ranks could make a text from halves of models of different steps.
TEST_F(Views, AModelIsNotPutTogetherOfTwoCheckpoints) {
  std::filesystem::remove(Newest());
  const ProgramResult result = Run("sample --checkpoint run --prompt cat --tokens 3 --temperature 0");
  EXPECT_EQ(result.exit_status, 2) << result.out;
  EXPECT_THAT(result.out, HasSubstr("rank 1: run/checkpoints/step-00000010/manifest.pb: can't open"));
}

TEST_F(Views, DataThatOneRankSeesOtherwiseAreNotTrainedOn) {
  std::filesystem::create_directory_symlink(*project_ / "tokens/train", View(0, "tokens"));
  std::filesystem::create_directory_symlink(*project_ / "tokens/validation", View(1, "tokens"));
  const ProgramResult result = Resume("--set folder=fresh --set data.train=tokens");
  EXPECT_EQ(result.exit_status, 2) << result.out;
  EXPECT_THAT(result.out, HasSubstr("rank 1 has another set of data files: "));
}

}  // namespace
}  // namespace isthmus::testing
