// The figures that a run exports of its head equal those of `isthmus decompose` for the tensors dumped at that step.
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/support/head_comparison.h"
#include "tests/support/program.h"
#include "tests/support/run_folder.h"

namespace isthmus::testing {
namespace {

constexpr int kDumpStep = 5;

// Returns a record's figures under the names of `isthmus decompose`. The record leaves out rows of a shard, and
// singular values between those that it has. The figures of `isthmus decompose` stand for them.
nlohmann::json AsDecomposed(const nlohmann::json& record, nlohmann::json figures) {
  const auto take = [&](const std::string& name, const std::string& key) {
    figures[name] = record.contains(key) ? record[key] : nlohmann::json();
  };
  take("loss", "train/loss");
  take("retained_ratio_histogram", "head/token_retained_ratio");
  take("token_gradient_histogram", "head/token_gradient_norm");
  for (const auto& [name, value] : figures.items()) {
    if (!value.is_number() || name == "tokens" || name == "vocabulary" || name == "width" || name == "loss") continue;
    take(name, absl::StrCat("head/", absl::StartsWith(name, "head_") ? name.substr(5) : name));
  }
  for (const char* list : {"shards", "buckets"}) {
    const auto& parts = record[absl::StrCat("head/", list)];
    for (size_t i = 0; i < figures[list].size(); ++i) {
      auto& part = figures[list][i];
      part["logit_gradient_energy"] = std::pow(parts.at(i)["logit_gradient_norm"].get<double>(), 2);
      part["retained_energy"] = std::pow(parts.at(i)["retained_gradient_norm"].get<double>(), 2);
      if (parts.at(i).contains("bucket")) part["bucket"] = parts.at(i)["bucket"];
      if (parts.at(i).contains("rows")) part["rows"] = parts.at(i)["rows"];
    }
  }
  for (const auto& [name, key] : {std::pair("head_singular_values", "head/singular_values"),
                                  std::pair("sampled_singular_values", "head/sampled_singular_values")}) {
    EXPECT_GE(record[key].size(), 10u);
    for (const auto& entry : record[key]) figures[name].at(entry["index"].get<size_t>() - 1) = entry["value"];
  }
  return figures;
}

class HeadDump : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { project_ = new TinyProject; }
  static void TearDownTestSuite() { delete project_; }
  static TinyProject& project() { return *project_; }

  // The records of the dumped step and of the one after it, and the figures that `isthmus decompose` finds in the dump.
  struct Run {
    nlohmann::json record, later, decomposed;
  };
  static Run TrainAndDecompose(const std::string& name, int tensor, int data, const std::string& more,
                               const std::string& of_dump = "") {
    const std::string config = project_->WriteConfig(name), run = *project_ / name;
    const int ranks = tensor * data;
    Run result;
    const ProgramResult trained = RunIsthmus(absl::StrCat("train --config ", config,
                                                          " --set schedule.steps=6 --set telemetry.interval=3 --set "
                                                          "telemetry.sample_tokens=100 --set telemetry.dump_step=",
                                                          kDumpStep, " --set mesh.tensor=", tensor, " ", more),
                                             ranks > 1 ? ranks : 0);
    EXPECT_EQ(trained.exit_status, 0) << trained.out;
    const auto records = Records(run);
    result.record = records.at(kDumpStep);
    result.later = records.at(kDumpStep + 1);
    const std::string dump = absl::StrCat(run, "/head-step-0000000", kDumpStep, "/"), json = run + "/head.json";
    const bool factorised = std::filesystem::exists(dump + "head-up.npy");
    std::string head = factorised ? absl::StrCat(" --head-up ", dump, "head-up.npy --head-down ", dump, "head-down.npy")
                                  : absl::StrCat(" --head ", dump, "head.npy");
    if (std::filesystem::exists(dump + "head-bias.npy")) absl::StrAppend(&head, " --head-bias ", dump, "head-bias.npy");
    const ProgramResult decomposed = RunIsthmus(
        absl::StrCat("decompose --hidden ", dump, "hidden.npy --targets ", dump, "targets.npy --counts ", dump,
                     "counts.npy", head, " ", of_dump, " --sample-tokens 100 --tensor ", tensor, " --json ", json));
    EXPECT_EQ(decomposed.exit_status, 0) << decomposed.out;
    result.decomposed = nlohmann::json::parse(ReadText(json));
    return result;
  }

 private:
  static TinyProject* project_;
};
TinyProject* HeadDump::project_ = nullptr;

TEST_F(HeadDump, ExportedFiguresAreThoseOfTheDumpedTensorsAtEveryMesh) {
  int number = 0;
  for (const auto& [tensor, data] : {std::pair(1, 1), std::pair(2, 1), std::pair(1, 2), std::pair(2, 2)}) {
    for (const char* model : {"", "--set model.head.rank=12 --set batch.micro_batch=2",
                              "--set model.tied_embeddings=true --set mesh.shard_optimizer=true"}) {
      SCOPED_TRACE(absl::StrCat("tensor ", tensor, ", data ", data, ": ", model));
      const Run run = TrainAndDecompose(absl::StrCat("dumped", number++), tensor, data, model);
      EXPECT_EQ(run.decomposed["tokens"], 8 * 32);
      EXPECT_EQ(run.decomposed["shards"].size(), tensor);
      EXPECT_EQ(run.record["head/singular_values_step"], kDumpStep);
      EXPECT_EQ(DifferentFigures(AsDecomposed(run.record, run.decomposed), run.decomposed, 1e-4), "");
      // The last step has the singular values of its own head, too, although those of the step before would not be old.
      EXPECT_EQ(run.later["head/singular_values_step"], kDumpStep + 1);
      // The figures of another step differ.
      EXPECT_NE(DifferentFigures(AsDecomposed(run.later, run.decomposed), run.decomposed, 1e-4), "");
    }
  }
}

// The tensors of a dump do not say by which loss they were trained.
TEST_F(HeadDump, OfACappedHeadWithAZLossHasItsFigures) {
  for (const auto& [tensor, data] : {std::pair(1, 1), std::pair(2, 2)}) {
    SCOPED_TRACE(absl::StrCat("tensor ", tensor, ", data ", data));
    const std::string name = absl::StrCat("capped", tensor);
    const Run run = TrainAndDecompose(name, tensor, data, "--set model.head.soft_cap=0.4 --set model.head.z_loss=0.02",
                                      "--soft-cap 0.4 --z-loss 0.02");
    EXPECT_EQ(DifferentFigures(AsDecomposed(run.record, run.decomposed), run.decomposed, 1e-4), "");
    EXPECT_GT(run.record["head_loss/z_loss"].get<double>(), 0.1);
    if (tensor > 1) continue;
    for (const char* lacks : {"--soft-cap 0.4", "--z-loss 0.02"}) {
      const Run other = TrainAndDecompose(name + lacks[2], tensor, data,
                                          "--set model.head.soft_cap=0.4 --set model.head.z_loss=0.02", lacks);
      EXPECT_NE(DifferentFigures(AsDecomposed(other.record, other.decomposed), other.decomposed, 1e-4), "");
    }
    // A checkpoint knows its loss, and has that of the run's evaluation.
    const std::string from =
        absl::StrCat("decompose --checkpoint ", project() / name, " --corpus ", project() / "tokens/validation",
                     " --tokens 512 --json ", project() / name, "/checkpoint.json");
    const ProgramResult decomposed = RunIsthmus(from);
    EXPECT_EQ(decomposed.exit_status, 0) << decomposed.out;
    const auto figures = nlohmann::json::parse(ReadText(project() / name + "/checkpoint.json"));
    EXPECT_NEAR(figures["loss"], Records(project() / name).back()["validation/loss"].get<double>(), 1e-5);
    const ProgramResult refused = RunIsthmus(from + " --z-loss 0.02");
    EXPECT_EQ(refused.exit_status, 2);
    EXPECT_EQ(refused.Count("--soft-cap, --z-loss: a checkpoint has its own"), 1) << refused.out;
  }
  for (const char* wrong : {"--soft-cap -1", "--soft-cap nan", "--z-loss inf", "--z-loss -0.1"}) {
    const ProgramResult refused = RunIsthmus(absl::StrCat("decompose --hidden h --targets t --head w ", wrong));
    EXPECT_EQ(refused.exit_status, 2) << wrong;
    EXPECT_EQ(refused.Count("accepts 0 (none) and finite numbers above") + refused.Count("accepts a finite number"), 1)
        << refused.out;
  }
}

// A checkpoint needs no training data for the factors of rows.
TEST_F(HeadDump, OfRowsWithABiasAndFactorsHasTheirFigures) {
  int number = 0;
  for (const auto& [tensor, data] : {std::pair(1, 1), std::pair(2, 2)}) {
    for (const char* model : {"", "--set model.head.rank=12"}) {
      SCOPED_TRACE(absl::StrCat("tensor ", tensor, ", data ", data, " ", model));
      const std::string name = absl::StrCat("rows", number++), run = project() / name;
      const Run found = TrainAndDecompose(
          name, tensor, data, absl::StrCat("--set model.head.bias=true --set model.head.row_scale=-0.2 ", model));
      EXPECT_EQ(DifferentFigures(AsDecomposed(found.record, found.decomposed), found.decomposed, 1e-4), "");
      const ProgramResult decomposed =
          RunIsthmus(absl::StrCat("decompose --checkpoint ", run, " --corpus ", project() / "tokens/validation",
                                  " --tokens 512 --tensor 2 --json ", run, "/checkpoint.json"));
      EXPECT_EQ(decomposed.exit_status, 0) << decomposed.out;
      const auto figures = nlohmann::json::parse(ReadText(run + "/checkpoint.json"));
      EXPECT_NEAR(figures["loss"], Records(run).back()["validation/loss"].get<double>(), 1e-5);
    }
  }
  const std::string dump = project() / "rows0/head-step-00000005/";
  const ProgramResult refused =
      RunIsthmus(absl::StrCat("decompose --hidden ", dump, "hidden.npy --targets ", dump, "targets.npy --head ", dump,
                              "head.npy --head-bias ", dump, "head.npy"));
  EXPECT_EQ(refused.exit_status, 2);
  EXPECT_EQ(refused.Count("needs one column and "), 1) << refused.out;
}

// A dump of a step with a sample of the classes is that of a head with so many.
TEST_F(HeadDump, OfSampledClassesHasTheirFigures) {
  for (const auto& [tensor, data] : {std::pair(1, 1), std::pair(2, 2)}) {
    SCOPED_TRACE(absl::StrCat("tensor ", tensor, ", data ", data));
    Run run = TrainAndDecompose(absl::StrCat("sampled", tensor), tensor, data,
                                "--set model.head.kind=sampled --set model.head.sampled+=classes:200");
    EXPECT_EQ(run.decomposed["vocabulary"], 200);
    nlohmann::json recorded = AsDecomposed(run.record, run.decomposed);
    // A head of 200 classes has other shards and buckets.
    for (const char* parts : {"shards", "buckets"}) {
      recorded.erase(parts);
      run.decomposed.erase(parts);
    }
    EXPECT_EQ(DifferentFigures(recorded, run.decomposed, 1e-4), "");
  }
}

// The samples are those of a run's validation, and so is the loss.
TEST_F(HeadDump, OfACheckpointIsTheSameAtEveryMeshAndHasTheValidationLoss) {
  int number = 0;
  for (const char* model : {"", "--set model.head.rank=12", "--set model.tied_embeddings=true"}) {
    const std::string name = absl::StrCat("saved", number++), run = project() / name;
    ASSERT_EQ(RunIsthmus(absl::StrCat("train --config ", project().WriteConfig(name), " ", model,
                                      " --set schedule.steps=6 --set mesh.tensor=2"),
                         2)
                  .exit_status,
              0);
    const auto decompose = [&](const std::string& options, int ranks) {
      const ProgramResult result =
          RunIsthmus(absl::StrCat("decompose --checkpoint ", run, " --corpus ", project() / "tokens/validation",
                                  " --tokens 512 --json ", run, "/figures.json ", options),
                     ranks);
      EXPECT_EQ(result.exit_status, 0) << result.out;
      return nlohmann::json::parse(ReadText(run + "/figures.json"));
    };
    const auto two = decompose("--tensor 2 --data 2", 4), alone = decompose("--tensor 2 --data 2", 0);
    EXPECT_EQ(two["tokens"], 512);
    EXPECT_EQ(two["shards"].size(), 2u);
    EXPECT_EQ(DifferentFigures(two, alone, 1e-4), "");
    EXPECT_NEAR(alone["loss"], Records(run).back()["validation/loss"].get<double>(), 1e-5);
    EXPECT_GT(alone["lost_norm_ratio"], 0.1);
  }
  const ProgramResult both = RunIsthmus("decompose --checkpoint a --corpus b --hidden c --targets d --head e");
  EXPECT_EQ(both.exit_status, 2);
  EXPECT_EQ(both.Count("accepts either --checkpoint and --corpus"), 1) << both.out;
}

TEST_F(HeadDump, ThatCanNotBeWrittenIsSaidAndCountedAndEndsNoRun) {
  const std::string config = project().WriteConfig("blocked");
  std::filesystem::create_directory(project() / "blocked");
  WriteText(project() / "blocked/head-step-00000005", "in the way");
  const ProgramResult result =
      RunIsthmus("train --config " + config + " --set schedule.steps=6 --set telemetry.dump_step=5");
  EXPECT_EQ(result.exit_status, 0) << result.out;
  EXPECT_EQ(result.Count("the head's tensors of step 5 are not dumped: "), 1) << result.out;
  EXPECT_EQ(Records(project() / "blocked").at(kDumpStep)["sinks/head_dump_failed_total"], 1);
}

}  // namespace
}  // namespace isthmus::testing
