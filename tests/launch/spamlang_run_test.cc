// Whole runs on SpamLang: they learn it, say what they have seen of it, and go on as if they had not been stopped.
#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "runtime/data/batch_loader.h"
#include "runtime/data/spamlang.h"
#include "tests/support/program.h"
#include "tests/support/run_folder.h"

namespace isthmus::testing {
namespace {

constexpr int64_t kSpamSequences = 16;
constexpr char kSpamFigures[] = "validation/";

class SpamLangRun : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    WriteText(*folder_ / "run.textproto",
              "device: CPU seed: 3\n"
              "model { width: 16 layers: 1 heads: 2 feed_forward: 32 vocabulary: 64 init_std: 0.1 }\n"
              "data { sequence_length: 2 spamlang {} pass_over: [1, 4, 5] }\n"
              "batch { sequences: 16 }\n"
              "optimizer { learning_rate: 0.02 beta2: 0.999 weight_decay: 0 }\n"
              "schedule { steps: 120 warmup_steps: 4 }\n"
              "telemetry { interval: 0 validation_interval: 2 }\n"
              "checkpoint { interval: 60 keep: 9 }\n");
    // These runs are what the tests look at.
    whole_ = Train("whole", "");
    two_ = Train("two", "--set mesh.data=2", 2);
  }
  static void TearDownTestSuite() { delete folder_; }

  static std::string Path(const std::string& name) { return *folder_ / name; }
  static ProgramResult Train(const std::string& name, const std::string& more, int ranks = 0) {
    return RunIsthmus(absl::StrCat("train --config ", Path("run.textproto"), " --set folder=", Path(name), " ", more),
                      ranks);
  }
  // Returns what validations found, by step.
  static std::map<int64_t, nlohmann::json> Validations(const std::string& name) {
    std::map<int64_t, nlohmann::json> all;
    for (const auto& record : Records(Path(name))) {
      if (!record.contains("validation/loss")) continue;
      for (const auto& [key, value] : record.items()) {
        if (key.rfind(kSpamFigures, 0) == 0) all[record["step"].get<int64_t>()][key] = value;
      }
    }
    return all;
  }
  static void ExpectFails(const ProgramResult& result, const std::string& message) {
    EXPECT_EQ(result.exit_status, 2) << result.out;
    EXPECT_EQ(result.Count(message), 1) << "expected once: " << message << "\n" << result.out;
  }

  static TemporaryFolder* folder_;
  static ProgramResult whole_, two_;
};
TemporaryFolder* SpamLangRun::folder_ = nullptr;
ProgramResult SpamLangRun::whole_, SpamLangRun::two_;

TEST_F(SpamLangRun, LearnsEverySymbolAndSaysSo) {
  ASSERT_EQ(whole_.exit_status, 0) << whole_.out;
  EXPECT_EQ(whole_.Count("made-up training tokens, unigram entropy 4.1589 nats per token"), 1) << whole_.out;
  const auto records = Records(Path("whole"));
  EXPECT_FALSE(records.front().contains("run/training_tokens"));
  EXPECT_EQ(records.front()["run/validation_tokens"], 128);
  auto found = Validations("whole");
  ASSERT_EQ(found.size(), 60u);
  EXPECT_LT(found[2]["validation/accuracy"], 0.5);
  EXPECT_EQ(found[120]["validation/accuracy"], 1.0);
  EXPECT_EQ(found[120]["validation/tokens"], 128);
  EXPECT_LT(found[120]["validation/loss"], 0.5);
  EXPECT_FALSE(found[120].contains("validation/unseen_accuracy"));
}

// The data are read as a run reads them, and each symbol is noted.
TEST_F(SpamLangRun, SaysWhatItHasSeen) {
  auto found = Validations("whole");
  auto source = std::make_shared<const SpamLang>(SpamLangShape{.symbols = 64, .vocabulary = 64, .sequence_length = 2},
                                                 SpamLang::Use::kTraining);
  BatchLoader loader(AllSamples(source), {.sequences = kSpamSequences, .seed = 3, .pass_over = {1, 4, 5}});
  std::set<int32_t> seen;
  bool partly = false;
  for (int64_t step = 1; step <= 120; ++step) {
    const auto batch = loader.Next();
    ASSERT_TRUE(batch.ok());
    seen.insert(batch->target_values.begin(), batch->target_values.end());
    if (step % 2 != 0) continue;
    const double share = static_cast<double>(seen.size()) / 64;
    nlohmann::json& figures = found[step];
    EXPECT_EQ(figures["validation/seen_symbols"], share) << step;
    EXPECT_EQ(figures["validation/sequences_per_symbol"], static_cast<double>(step * kSpamSequences) / 64) << step;
    // Each symbol is validated once.
    EXPECT_EQ(figures.contains("validation/unseen_accuracy"), seen.size() < 64);
    double accuracy = share * figures["validation/seen_accuracy"].get<double>();
    if (seen.size() < 64) {
      partly = true;
      accuracy += (1 - share) * figures["validation/unseen_accuracy"].get<double>();
    }
    EXPECT_NEAR(figures["validation/accuracy"].get<double>(), accuracy, 1e-12) << step;
  }
  EXPECT_TRUE(partly && seen.size() == 64);
  // Other data than these would be noticed.
  EXPECT_NE(found[2]["validation/seen_symbols"], found[6]["validation/seen_symbols"]);
}

TEST_F(SpamLangRun, HasSeenTheSameAtAnotherMesh) {
  ASSERT_EQ(two_.exit_status, 0) << two_.out;
  auto expected = Validations("whole"), found = Validations("two");
  ASSERT_EQ(found.size(), 60u);
  for (auto& [step, figures] : found) {
    for (const char* key : {"validation/seen_symbols", "validation/sequences_per_symbol"}) {
      EXPECT_EQ(figures[key], expected[step][key]) << step;
    }
    if (step > 16) continue;  // rounding grows
    EXPECT_NEAR(figures["validation/loss"].get<double>(), expected[step]["validation/loss"].get<double>(), 1e-4);
    EXPECT_NEAR(figures["validation/accuracy"].get<double>(), expected[step]["validation/accuracy"].get<double>(),
                2.0 / 64);
  }
}

TEST_F(SpamLangRun, GoesOnBitForBitAndOnlyWithItsOwnData) {
  std::filesystem::copy(Path("whole"), Path("parts"),
                        std::filesystem::copy_options::recursive | std::filesystem::copy_options::copy_symlinks);
  std::filesystem::remove_all(Path("parts/checkpoints/step-00000120"));
  ExpectFails(Train("parts", "--resume auto --set data.spamlang.symbols=63"), "data.spamlang.symbols: 64 -> 63");
  const ProgramResult result = Train("parts", "--resume auto");
  ASSERT_EQ(result.exit_status, 0) << result.out;
  EXPECT_EQ(result.Count("continues after step 60"), 1) << result.out;
  EXPECT_EQ(Validations("parts"), Validations("whole"));
  const std::string tensors = "/checkpoints/step-00000120/rank-0000.tensors";
  EXPECT_TRUE(ReadText(Path("parts") + tensors) == ReadText(Path("whole") + tensors));
  // The batches that it had passed over are those of its checkpoint, whatever is passed over from then on.
  std::filesystem::remove_all(Path("parts/checkpoints/step-00000120"));
  ASSERT_EQ(Train("parts", "--resume auto --set data.pass_over=2").exit_status, 0);
  EXPECT_EQ(Validations("parts"), Validations("whole"));
}

TEST_F(SpamLangRun, CommandsNeedNoCorpus) {
  const std::string json = Path("figures.json"), run = Path("whole");
  const ProgramResult result = RunIsthmus(absl::StrCat("decompose --checkpoint ", run, " --json ", json));
  ASSERT_EQ(result.exit_status, 0) << result.out;
  const auto figures = nlohmann::json::parse(ReadText(json));
  EXPECT_EQ(figures["tokens"], 128);
  EXPECT_NEAR(figures["loss"], Validations("whole")[120]["validation/loss"].get<double>(), 1e-5);
  ExpectFails(RunIsthmus(absl::StrCat("decompose --checkpoint ", run, " --corpus ", run)),
              "accepts none: the model of ");
  ExpectFails(RunIsthmus(absl::StrCat("sample --checkpoint ", run, " --prompt x")), "was trained on data.spamlang");
  EXPECT_EQ(RunIsthmus("checkpoint verify " + run + "/checkpoints/step-00000120").exit_status, 0);
  EXPECT_EQ(RunIsthmus("plan --device h100 --config " + Path("run.textproto") + " --set folder=x").exit_status, 0);
}

// Their logits are log-probabilities, which validation reads besides the loss.
TEST_F(SpamLangRun, HeadsOfOtherKindsHaveAnAccuracy) {
  for (const std::string head :
       {"kind=hierarchical --set model.head.clusters.kind=order --set model.head.clusters.count=8", "kind=mixture",
        "kind=copy"}) {
    SCOPED_TRACE(head);
    const std::string name = head.substr(5, 4);
    const ProgramResult result = Train(name, "--set schedule.steps=40 --set mesh.tensor=2 --set model.head." + head, 2);
    ASSERT_EQ(result.exit_status, 0) << result.out;
    auto found = Validations(name);
    EXPECT_GT(found[40]["validation/accuracy"], found[2]["validation/accuracy"]);
    EXPECT_GT(found[40]["validation/accuracy"], 0.5);
  }
}

TEST_F(SpamLangRun, SettingsThatContradictItAreRefused) {
  struct Case {
    const char* set;
    const char* said;
  };
  for (const auto& [set, said] :
       {Case{"data.train+=tokens", "data.train: \"tokens\"; accepts none with data.spamlang"},
        Case{"data.validation+=tokens", "data.validation: \"tokens\"; accepts none with data.spamlang"},
        Case{"data.tokenizer=my.model", "data.tokenizer: \"my.model\"; accepts none with data.spamlang"},
        Case{"model.vocabulary=0", "model.vocabulary: 0; accepts 1 and more with data.spamlang"},
        Case{"model.vocabulary=-1", "model.vocabulary: -1; accepts"},
        Case{"data.spamlang.symbols=65", "data.spamlang.symbols: 65; accepts 1 to model.vocabulary (64), or 0"},
        Case{"data.spamlang.symbols=-1", "data.spamlang.symbols: -1; accepts 1 to model.vocabulary (64), or 0"},
        Case{"data.spamlang.symbols=x", "found \"x\"; symbols accepts a whole number"}}) {
    ExpectFails(Train("refused", absl::StrCat("--set ", set)), said);
  }
  // One symbol, and one token, are enough.
  const ProgramResult one = Train(
      "one",
      "--set data.spamlang.symbols=1 --set data.sequence_length=1 --set schedule.steps=4 --set batch.sequences=1");
  ASSERT_EQ(one.exit_status, 0) << one.out;
  EXPECT_EQ(Validations("one")[4]["validation/seen_symbols"], 1.0);
}

}  // namespace
}  // namespace isthmus::testing
