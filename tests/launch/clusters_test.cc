// A run whose head has clusters of tokens: what it needs, what its checkpoints hold, and what is refused.
#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "runtime/npy.h"
#include "tests/support/program.h"
#include "tests/support/run_folder.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;

constexpr int32_t kTokens = 300, kClusters = 11;

class Clusters : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    setenv("OMPI_MCA_odls_base_sigkill_timeout", "0", /*replace=*/1);
    project_ = new TinyProject;
    for (int32_t token = 0; token < kTokens; ++token) numbers_.push_back(token * 7 % kClusters);
    WriteText(File(), NpyBytes(numbers_));
  }
  static void TearDownTestSuite() { delete project_; }

  static TinyProject& project() { return *project_; }
  static std::string File() { return project() / "clusters.npy"; }
  static ProgramResult Train(const std::string& name, int ranks, const std::string& more) {
    return RunIsthmus(absl::StrCat("train --config ", project().WriteConfig(name),
                                   " --set model.head.kind=cluster --set data.token_clusters=", File(),
                                   " --set checkpoint.interval=10 ", more),
                      ranks);
  }
  static std::string Checkpoint(const std::string& name, int step) {
    return absl::StrCat(project() / name, "/checkpoints/step-000000", step);
  }

  static TinyProject* project_;
  static std::vector<int32_t> numbers_;
};
TinyProject* Clusters::project_ = nullptr;
std::vector<int32_t> Clusters::numbers_;

// Everything after training works without the file. A run that goes on is the uninterrupted one.
TEST_F(Clusters, ACheckpointNeedsNoOtherFile) {
  const std::string mesh = "--set mesh.tensor=2 ";
  const ProgramResult trained = Train("whole", 2, mesh);
  ASSERT_EQ(trained.exit_status, 0) << trained.out;
  EXPECT_THAT(ReadText(project() / "whole/config.textproto"), HasSubstr("count: 11"));
  const std::string checkpoint = Checkpoint("whole", 20), away = project() / "away.npy";
  EXPECT_EQ(ReadText(checkpoint + "/clusters.npy"), NpyBytes(numbers_));
  EXPECT_EQ(RunIsthmus("checkpoint verify " + checkpoint).Count(": sound: step 20"), 1);
  EXPECT_EQ(RunIsthmus("checkpoint show " + checkpoint).Count("clusters.npy: 11 clusters of 300 tokens"), 1);

  std::filesystem::rename(File(), away);
  const ProgramResult sampled =
      RunIsthmus(absl::StrCat("sample --checkpoint ", checkpoint, " --prompt \"the cat\" --tokens 20 --temperature 0"));
  EXPECT_EQ(sampled.exit_status, 0) << sampled.out;
  const ProgramResult decomposed =
      RunIsthmus(absl::StrCat("decompose --checkpoint ", checkpoint, " --corpus ", project() / "tokens/validation"));
  EXPECT_EQ(decomposed.exit_status, 0) << decomposed.out;
  EXPECT_EQ(decomposed.Count("\"lost_norm_ratio\""), 1) << decomposed.out;

  // As if it had been killed after step 10.
  std::filesystem::copy(project() / "whole", project() / "parts",
                        std::filesystem::copy_options::recursive | std::filesystem::copy_options::copy_symlinks);
  std::filesystem::remove_all(Checkpoint("parts", 20));
  const ProgramResult resumed = Train("parts", 2, mesh + "--resume auto");
  EXPECT_EQ(resumed.exit_status, 0) << resumed.out;
  EXPECT_EQ(resumed.Count("continues after step 10"), 1) << resumed.out;
  for (const char* file : {"/rank-0000.tensors", "/rank-0001.tensors", "/clusters.npy"}) {
    EXPECT_TRUE(ReadText(Checkpoint("parts", 20) + file) == ReadText(checkpoint + file)) << file;
  }
  // So does another run that begins with a checkpoint. The number may stand in its configuration.
  const ProgramResult next = Train(
      "next", 0, absl::StrCat("--set model.head.clusters.count=11 --resume ", checkpoint, " --set schedule.steps=21"));
  EXPECT_EQ(next.exit_status, 0) << next.out;
  // Without a checkpoint the file is needed.
  const ProgramResult first = Train("first", 2, mesh + "--resume auto");
  EXPECT_EQ(first.exit_status, 2) << first.out;
  EXPECT_THAT(first.out, HasSubstr(File()));
  EXPECT_FALSE(std::filesystem::exists(project() / "first/metrics.jsonl"));
  std::filesystem::rename(away, File());
}

TEST_F(Clusters, AChangedFileIsRefused) {
  ASSERT_EQ(Train("changed", 0, "--set schedule.steps=10").exit_status, 0);
  std::vector<int32_t> other = numbers_;
  std::swap(other[3], other[4]);
  WriteText(File(), NpyBytes(other));
  const std::string checkpoint = Checkpoint("changed", 10), records = ReadText(project() / "changed/metrics.jsonl");
  const ProgramResult refused = Train("changed", 0, "--resume auto");
  EXPECT_EQ(refused.exit_status, 2) << refused.out;
  EXPECT_THAT(refused.out,
              HasSubstr(absl::StrCat(
                  checkpoint, ": can't be continued with these clusters of tokens: token 3 is of cluster ", other[3],
                  ", and was of cluster ", numbers_[3], "; set data.token_clusters to ", checkpoint, "/clusters.npy")));
  EXPECT_EQ(ReadText(project() / "changed/metrics.jsonl"), records);
  // The remedy that the message names.
  const ProgramResult again = Train("changed", 0,
                                    absl::StrCat("--resume auto --set schedule.steps=12 ",
                                                 "--set data.token_clusters=", checkpoint, "/clusters.npy"));
  EXPECT_EQ(again.exit_status, 0) << again.out;
  WriteText(File(), NpyBytes(numbers_));
}

TEST_F(Clusters, ADamagedCopyIsNoticed) {
  ASSERT_EQ(Train("damaged", 0, "").exit_status, 0);
  const std::string checkpoint = Checkpoint("damaged", 20), file = checkpoint + "/clusters.npy";
  std::vector<int32_t> other = numbers_;
  std::swap(other[3], other[4]);
  WriteText(file, NpyBytes(other));
  const std::string sample = absl::StrCat("sample --checkpoint ", checkpoint, " --prompt a --tokens 3");
  for (const std::string& command : {sample, "checkpoint verify " + checkpoint, "checkpoint show " + checkpoint}) {
    const ProgramResult result = RunIsthmus(command);
    EXPECT_NE(result.exit_status, 0) << result.out;
    EXPECT_THAT(result.out, HasSubstr(file + ": ")) << command;
  }
  // An older checkpoint will do.
  const ProgramResult resumed = Train("damaged", 0, "--resume auto");
  EXPECT_EQ(resumed.exit_status, 0) << resumed.out;
  EXPECT_EQ(resumed.Count("continues after step 10"), 1) << resumed.out;
}

TEST_F(Clusters, WrongFilesAreRefusedAtTheStart) {
  const std::string wrong = project() / "wrong.npy";
  const auto refusal = [&](const std::vector<int32_t>& numbers, const std::string& more = "") {
    WriteText(wrong, NpyBytes(numbers));
    const ProgramResult result = Train("refused", 0, absl::StrCat("--set data.token_clusters=", wrong, " ", more));
    EXPECT_EQ(result.exit_status, 2) << result.out;
    EXPECT_FALSE(std::filesystem::exists(project() / "refused/metrics.jsonl"));
    return result.out;
  };
  std::vector<int32_t> numbers = numbers_;
  EXPECT_THAT(refusal(numbers, "--set model.head.clusters.count=12"),
              HasSubstr("model.head.clusters.count: 12; data.token_clusters has 11 clusters; set 0 or 11"));
  numbers.pop_back();
  EXPECT_THAT(refusal(numbers), HasSubstr(wrong + ": found int32 (299,)"));
  numbers.push_back(-1);
  EXPECT_THAT(refusal(numbers), HasSubstr(wrong + ": token 299 "));
}

// A plan opens no file.
TEST_F(Clusters, APlanNeedsTheirNumberAlone) {
  const std::string plan = absl::StrCat("plan --config ", project().WriteConfig("planned"),
                                        " --set model.vocabulary=300 --set model.head.kind=cluster "
                                        "--set data.token_clusters=nowhere.npy ");
  const ProgramResult open = RunIsthmus(plan);
  EXPECT_EQ(open.exit_status, 2);
  EXPECT_THAT(open.out, HasSubstr("model.head.clusters.count: 0 takes it from data.token_clusters, which a plan does "
                                  "not open; set it"));
  const ProgramResult planned = RunIsthmus(plan + "--set model.head.clusters.count=11");
  EXPECT_EQ(planned.exit_status, 0) << planned.out;
}

}  // namespace
}  // namespace isthmus::testing
