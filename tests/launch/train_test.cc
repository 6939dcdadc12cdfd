// The program leads from corpus to sampled text, as its users run it.
#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/train/schedule.h"
#include "model/train/training_memory.h"
#include "runtime/config.h"
#include "tests/support/paths.h"
#include "tests/support/program.h"
#include "tests/support/run_folder.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

class Train : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { project_ = new TinyProject; }
  static void TearDownTestSuite() { delete project_; }
  static TinyProject& project() { return *project_; }

 private:
  static TinyProject* project_;
};
TinyProject* Train::project_ = nullptr;

// OpenMP may be told to give fewer threads than a program asks for.
TEST_F(Train, LimitsOfOpenMpChangeNoFigure) {
  const auto figures = [&](const std::string& name, const std::string& environment) {
    const std::string config = project().WriteConfig(name);
    const ProgramResult result =
        RunShell(absl::StrCat(environment, " ", ProgramPath(), " train --set schedule.steps=5 --config ", config));
    EXPECT_EQ(result.exit_status, 0) << result.out;
    std::vector<double> all = Losses(project() / name);
    const auto last = Records(project() / name).back();
    for (const char* key : {"head/lost_energy_ratio", "train/gradient_norm", "validation/loss"}) {
      all.push_back(last.at(key).get<double>());
    }
    return all;
  };
  const auto one = figures("one-thread", "OMP_NUM_THREADS=1");
  EXPECT_EQ(figures("limit", "OMP_NUM_THREADS=3 OMP_THREAD_LIMIT=1"), one);
  EXPECT_EQ(figures("levels", "OMP_NUM_THREADS=3 OMP_MAX_ACTIVE_LEVELS=0"), one);
  EXPECT_EQ(figures("dynamic", "OMP_NUM_THREADS=3 OMP_DYNAMIC=true"), figures("three", "OMP_NUM_THREADS=3"));
}

TEST_F(Train, LearnsOnTwoRanksAndLeavesACompleteRunFolder) {
  const std::string config = project().WriteConfig("two");
  const ProgramResult result = RunIsthmus("train --config " + config, 2);
  ASSERT_EQ(result.exit_status, 0) << result.out;
  const std::string run = project() / "two";
  const auto records = Records(run);
  ASSERT_EQ(records.size(), 21u);
  EXPECT_EQ(records[0]["run/tensor_ranks"], 1);
  EXPECT_EQ(records[0]["run/data_ranks"], 2);
  EXPECT_GT(records[0]["run/validation_tokens"], 2 * 8 * 32);
  EXPECT_EQ(records[0]["run/log_interval"], 1);
  const auto held = PlanLargestTrainingMemory(*LoadConfig(run + "/config.textproto", {}), Device::kCpu).bytes();
  EXPECT_EQ(records[0]["run/weight_bytes"], held.weights);
  EXPECT_EQ(records[0]["run/head_bytes"], held.head + held.decomposition) << "the head, the loss and their measurement";
  const std::vector<double> losses = Losses(run);
  EXPECT_NEAR(losses.front(), std::log(300), 0.2);
  EXPECT_LT(losses.back(), losses.front() - 1);
  for (size_t i = 1; i < records.size(); ++i) {
    const auto& record = records[i];
    EXPECT_EQ(record["step"], i);
    EXPECT_EQ(record["tokens"], i * 8 * 32);
    EXPECT_EQ(record.contains("validation/loss"), i == 10 || i == 20);
    EXPECT_EQ(record.contains("head/lost_energy_ratio"), i % 5 == 0);
    // The validation takes two batches of a larger set.
    if (i % 10 == 0) {
      EXPECT_EQ(record["validation/tokens"], 2 * 8 * 32);
      EXPECT_GT(record["validation/accuracy"], 0.01);
      EXPECT_LT(record["validation/accuracy"], 0.9);
    }
    for (const char* key : {"train/gradient_norm", "train/learning_rate", "train/tokens_per_second",
                            "time/forward_seconds", "time/optimizer_seconds"}) {
      ASSERT_TRUE(record.contains(key)) << key;
      EXPECT_GT(record[key].get<double>(), 0) << key;
    }
    // It is absent if a busy machine's peak was measured too low.
    const double utilisation = record.value("train/causal_utilisation_ratio", 0.5);
    EXPECT_TRUE(utilisation > 0 && utilisation <= 1) << utilisation;
  }
  for (const char* file : {"/config.textproto", "/log/rank-0000.log", "/log/rank-0001.log",
                           "/checkpoints/step-00000020/manifest.pb", "/checkpoints/step-00000020/tokenizer.model"}) {
    EXPECT_TRUE(std::filesystem::exists(run + file)) << file;
  }
  EXPECT_NE(result.out.find("unigram entropy"), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("validation loss"), std::string::npos);
}

TEST_F(Train, EveryShardOfTheHeadIsReportedAndTheRatiosAreConsistent) {
  const std::string config = project().WriteConfig("shards", "mesh { tensor: 2 }");
  const ProgramResult result = RunIsthmus("train --config " + config, 2);
  ASSERT_EQ(result.exit_status, 0) << result.out;
  EXPECT_EQ(result.Count(" % of its norm (a head in random position: "), 1) << result.out;
  EXPECT_EQ(result.Count("energy of the gradient by shard, before -> after the head: 0: "), 1) << result.out;
  int measured = 0;
  for (const auto& record : Records(project() / "shards")) {
    if (!record.contains("head/shards")) continue;
    ++measured;
    const auto& shards = record["head/shards"];
    ASSERT_EQ(shards.size(), 2u);
    // The shares of all parts make a whole, before and after the projection.
    for (const char* parts : {"head/shards", "head/buckets"}) {
      double energy = 0, share = 0, retained_share = 0;
      for (const auto& part : record[parts]) {
        energy += std::pow(part["logit_gradient_norm"].get<double>(), 2);
        share += part["energy_share"].get<double>();
        retained_share += part["retained_energy_share"].get<double>();
      }
      EXPECT_NEAR(std::sqrt(energy) / record["head/logit_gradient_norm"].get<double>(), 1, 1e-5) << parts;
      EXPECT_NEAR(share, 1, 1e-5) << parts;
      EXPECT_NEAR(retained_share, 1, 1e-5) << parts;
    }
    const double lost = record["head/lost_norm_ratio"], seen = record["head/visible_cosine"];
    EXPECT_NEAR(lost * lost + seen * seen, 1, 1e-9);
    EXPECT_NEAR(lost * lost, record["head/lost_energy_ratio"], 1e-12);
    EXPECT_GT(lost, 0);
    EXPECT_LT(lost, 1);
  }
  EXPECT_EQ(measured, 4);
}

TEST_F(Train, SamplesThatEveryHeadWouldKeepAreSaidAndLeftOutAndAnUntrainedModelLiesAboveTheEntropy) {
  const std::string train = "train --config " + project().WriteConfig("few") +
                            " --set schedule.steps=1 --set schedule.warmup_steps=0 --set telemetry.interval=1 --set "
                            "optimizer.learning_rate=0 --set "
                            "telemetry.sample_tokens=";
  const ProgramResult few = RunIsthmus(train + "32");
  ASSERT_EQ(few.exit_status, 0) << few.out;
  EXPECT_EQ(few.Count("telemetry.sample_tokens (32) is not above the head's width (32): best_rank_energy_ratio would"),
            1)
      << few.out;
  const auto record = Records(project() / "few").back();
  EXPECT_EQ(record["head/sampled_tokens"], 32);
  EXPECT_TRUE(record.contains("head/sampled_retained_energy_ratio"));
  for (const char* key : {"best_rank_energy_ratio", "best_double_rank_energy_ratio", "components_for_70_percent",
                          "components_for_99_9_percent"}) {
    EXPECT_FALSE(record.contains(std::string("head/") + key)) << key;
  }
  EXPECT_EQ(few.Count(" % above the corpus's unigram entropy of "), 1) << few.out;
  EXPECT_EQ(few.Count(" -"), 0) << few.out;

  const ProgramResult enough = RunIsthmus(train + "64 --set folder=" + (project() / "enough"));
  ASSERT_EQ(enough.exit_status, 0) << enough.out;
  EXPECT_EQ(enough.Count("is not above the head's width"), 0) << enough.out;
  const auto more = Records(project() / "enough").back();
  EXPECT_LT(more["head/best_rank_energy_ratio"], 1);
  EXPECT_FALSE(more.contains("head/best_double_rank_energy_ratio"));
}

// The first step from weights that are all but zero makes a head of a few directions: its condition is some millions.
TEST_F(Train, FiguresOfAHeadWhoseConditionIsBeyondFp32AreAbsentAndSaidToBe) {
  const std::string config = project().WriteConfig("ill");
  const ProgramResult result =
      RunIsthmus("train --config " + config +
                 " --set model.init_std=1e-20 --set schedule.warmup_steps=0 --set schedule.steps=4 --set "
                 "batch.sequences=2 --set telemetry.interval=1");
  ASSERT_EQ(result.exit_status, 0) << result.out;
  EXPECT_EQ(result.Count("gradient lost in the LM head: not measured, its condition "), 1) << result.out;
  EXPECT_EQ(result.Count("gradient lost 0.0 %"), 0) << result.out;
  const auto records = Records(project() / "ill");
  const auto& last = records.back();
  for (const char* key : {"head/logit_gradient_norm", "head/isotropic_lost_norm_ratio", "head/condition",
                          "head/target_energy_share", "head/update_cosine", "head/best_rank_energy_ratio"}) {
    EXPECT_TRUE(last.contains(key)) << key;
  }
  for (const char* key :
       {"head/retained_gradient_norm", "head/lost_gradient_norm", "head/lost_norm_ratio", "head/lost_energy_ratio",
        "head/visible_cosine", "head/alignment_gain", "head/retained_target_energy_share",
        "head/retained_target_coefficient", "head/sampled_retained_energy_ratio", "head/token_retained_ratio"}) {
    EXPECT_FALSE(last.contains(key)) << key;
  }
  for (const char* parts : {"head/shards", "head/buckets"}) {
    for (const auto& part : last[parts]) {
      EXPECT_TRUE(part.contains("energy_share")) << parts;
      EXPECT_FALSE(part.contains("retained_energy_share") || part.contains("retained_gradient_norm")) << parts;
    }
  }
  const std::string log = ReadText(project() / "ill" + "/log/rank-0000.log");
  const size_t said = log.find("head not measured: its condition ");
  EXPECT_NE(said, std::string::npos) << log;
  EXPECT_EQ(log.find("head not measured: ", said + 1), std::string::npos) << log;
}

TEST_F(Train, TheSameRunTwiceGivesTheSameBitsAndAnotherMeshTheSameLosses) {
  if (TestsAreFew()) GTEST_SKIP() << "compares numbers, which no sanitizer changes";
  const std::string precision = "precision { compute: FP64 }";
  const auto run = [&](const std::string& name, int ranks, const std::string& more) {
    const std::string config = project().WriteConfig(name, precision + more);
    const ProgramResult result = RunIsthmus("train --config " + config, ranks);
    EXPECT_EQ(result.exit_status, 0) << result.out;
    return Losses(project() / name);
  };
  const auto first = run("first", 2, "mesh { tensor: 2 }"), again = run("again", 2, "mesh { tensor: 2 }");
  EXPECT_EQ(first, again);
  const auto one = run("one", 0, ""), data = run("data", 2, "mesh { data: 2 shard_optimizer: true }");
  ASSERT_EQ(one.size(), 20u);
  ASSERT_EQ(data.size(), 20u);
  for (size_t i = 0; i < one.size(); ++i) {
    EXPECT_NEAR(first[i] / one[i], 1, 1e-10);
    EXPECT_NEAR(data[i] / one[i], 1, 1e-10);
  }
  // Another seed is another run.
  EXPECT_NE(run("seed", 0, "seed: 99"), one);
}

TEST_F(Train, ResolvedConfigurationStartsTheSameRun) {
  if (TestsAreFew()) GTEST_SKIP() << "compares numbers, which no sanitizer changes";
  const std::string config = project().WriteConfig("original");
  ASSERT_EQ(RunIsthmus("train --config " + config + " --set schedule.steps=4 --set seed=77").exit_status, 0);
  const ProgramResult again = RunIsthmus("train --config " + (project() / "original/config.textproto") +
                                         " --set folder=" + (project() / "copy"));
  ASSERT_EQ(again.exit_status, 0) << again.out;
  EXPECT_EQ(Losses(project() / "original"), Losses(project() / "copy"));
  EXPECT_EQ(Losses(project() / "copy").size(), 4u);
}

TEST_F(Train, AFolderThatHoldsARunIsLeftAlone) {
  const std::string config = project().WriteConfig("kept");
  ASSERT_EQ(RunIsthmus("train --config " + config + " --set schedule.steps=4").exit_status, 0);
  const std::string before = ReadText(project() / "kept/metrics.jsonl");
  const ProgramResult second = RunIsthmus("train --config " + config, 2);
  EXPECT_EQ(second.exit_status, 2) << second.out;
  EXPECT_EQ(second.Count("already holds a run"), 1) << second.out;
  EXPECT_EQ(ReadText(project() / "kept/metrics.jsonl"), before);
}

TEST_F(Train, StopsAtTheTimeLimitWithTheLearningRateDecayed) {
  const std::string config = project().WriteConfig("timed");
  const ProgramResult result =
      RunIsthmus("train --config " + config + " --set schedule.steps=100000000 --set schedule.max_seconds=2", 2);
  ASSERT_EQ(result.exit_status, 0) << result.out;
  const auto records = Records(project() / "timed");
  proto::ScheduleConfig schedule;
  schedule.set_steps(100000000);
  schedule.set_warmup_steps(2);
  schedule.set_max_seconds(2);
  for (size_t i = 3; i < records.size(); ++i) {
    // The rate follows the clock when the step began: after the end of the step before, and before its own end.
    const double found = records[i]["train/learning_rate"];
    const auto rate = [&](double seconds) { return LearningRate(schedule, 1e-2, static_cast<int64_t>(i), seconds); };
    EXPECT_LE(found, rate(records[i - 1]["elapsed_seconds"])) << i;
    EXPECT_GE(found, rate(records[i]["elapsed_seconds"])) << i;
  }
  EXPECT_LT(records.back()["train/learning_rate"].get<double>(), 9e-3);
  EXPECT_TRUE(records.back().contains("validation/loss"));
}

TEST_F(Train, WeightsOfOneMeshContinueAPromptOnAnyOther) {
  const std::string config = project().WriteConfig("weights", "mesh { tensor: 2 }");
  ASSERT_EQ(RunIsthmus("train --config " + config, 2).exit_status, 0);
  const std::string arguments = "sample --checkpoint " + (project() / "weights") +
                                " --prompt \"the cat\" --tokens 40 --temperature 0.8 --top-k 50 --top-p 0.95 --seed 3";
  const ProgramResult one = RunIsthmus(arguments), two = RunIsthmus(arguments, 2);
  EXPECT_EQ(one.exit_status, 0) << one.out;
  EXPECT_EQ(one.out.rfind("the cat", 0), 0u) << one.out;
  EXPECT_GT(one.out.size(), 12u);
  EXPECT_EQ(one.out, two.out);
  if (TestsAreFew()) return;  // more of the same under sanitizers
  EXPECT_EQ(one.out, RunIsthmus(arguments, 4).out);
  EXPECT_NE(RunIsthmus(arguments + " --seed 4").out, one.out);
  const std::string greedy = "sample --checkpoint " + (project() / "weights") + " --prompt \"the\" --temperature 0";
  EXPECT_EQ(RunIsthmus(greedy).out, RunIsthmus(greedy + " --seed 9").out);
}

TEST_F(Train, AModelWithMoreRowsThanTheTokenizerHasTokensIsSampledFrom) {
  ASSERT_EQ(RunIsthmus("train --config " + project().WriteConfig("padded") +
                       " --set model.vocabulary=3000 --set schedule.steps=2")
                .exit_status,
            0);
  const std::string sample = "sample --tokens 30 --prompt a --checkpoint " + (project() / "padded");
  for (const int ranks : {0, 2}) {
    const ProgramResult result = RunIsthmus(sample, ranks);
    EXPECT_EQ(result.exit_status, 0) << result.out;
  }
  // A reader that is gone ends all ranks.
  const ProgramResult unread = RunIsthmus(sample + " > /dev/full", 0);
  EXPECT_EQ(unread.exit_status, 2) << unread.out;
  EXPECT_EQ(unread.Count("the output can't be written"), 1) << unread.out;
}

TEST_F(Train, WhoseProgressNobodyReadsIsDone) {
  const std::string command = ProgramPath() + " train --config " + project().WriteConfig("unread");
  const ProgramResult result = RunShell("OMP_NUM_THREADS=1 " + command + " --set schedule.steps=4 > /dev/full");
  EXPECT_EQ(result.exit_status, 0) << result.out;
  EXPECT_EQ(result.Count("isthmus: the output can't be written; the run's files are complete"), 1) << result.out;
  // A pipe without a reader has a signal of its own.
  const ProgramResult piped = RunShell(absl::StrCat("export OMP_NUM_THREADS=1; { ", command,
                                                    " --resume auto; echo $? > ", project() / "status", "; } | true"));
  EXPECT_EQ(ReadText(project() / "status"), "0\n") << piped.out;
  EXPECT_TRUE(std::filesystem::exists(project() / "unread/checkpoints/step-00000020"));
}

TEST_F(Train, EveryOptionOfMeshAndModelRuns) {
  int number = 0;
  for (const char* more :
       {"--set mesh.tensor=2 --set mesh.sequence_parallel=true --set precision.recompute=true --set "
        "schedule.kind=CONSTANT",
        "--set mesh.data=2 --set mesh.shard_optimizer=true --set model.tied_embeddings=true "
        "--set schedule.kind=WARMUP_STABLE_DECAY",
        "--set mesh.tensor=2 --set model.head.rank=8 --set model.kv_heads=2",
        "--set precision.compute=BF16 --set mesh.tensor=2 --set schedule.kind=LINEAR --set batch.micro_batch=2"}) {
    const std::string name = "option" + std::to_string(number++);
    const ProgramResult result =
        RunIsthmus("train --config " + project().WriteConfig(name) + " --set schedule.steps=10 " + more, 2);
    ASSERT_EQ(result.exit_status, 0) << more << "\n" << result.out;
    const auto losses = Losses(project() / name);
    EXPECT_LT(losses.back(), losses.front() - 0.3) << more;
  }
}

}  // namespace
}  // namespace isthmus::testing
