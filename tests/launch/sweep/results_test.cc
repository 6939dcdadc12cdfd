// Results that are known, and the findings that a sweep makes of them.
#include "launch/sweep/results.h"

#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "launch/sweep/arm_runs.h"
#include "launch/sweep/page.h"
#include "launch/sweep/results_json.h"
#include "tests/support/program.h"

namespace isthmus::sweep {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

ArmSurvey ArmOf(const std::string& name, const std::vector<double>& losses, bool inside = true) {
  ArmSurvey arm{.arm = name};
  arm.tunings.push_back({.name = "rate",
                         .values = {{0.001, 4}, {0.01, 3}, {0.1, std::numeric_limits<double>::infinity()}},
                         .best = BestRate{0.01, 3, inside, 0.01, 3}});
  for (size_t i = 0; i < losses.size(); ++i) {
    arm.seeds.push_back(
        {.seed = i + 1, .run = name + "/seed-" + std::to_string(i + 1), .result = RunResult{.loss = losses[i]}});
  }
  return arm;
}

proto::SweepConfig ConfigOfTwo() {
  proto::SweepConfig config;
  config.set_baseline("full");
  config.set_folder("/nowhere");
  return config;
}

TEST(SweepResults, ADifferenceIsAFindingOnlyIfItsIntervalExcludesZero) {
  const proto::SweepConfig config = ConfigOfTwo();
  const std::vector<ArmResult> results =
      ResultsOf(config, {ArmOf("full", {3.0, 3.5, 4.0}), ArmOf("better", {2.9, 3.39, 3.9}),
                         ArmOf("worse", {3.1, 3.61, 4.1}), ArmOf("alike", {3.1, 3.4, 4.0})});
  const auto finding = [&](size_t arm) { return FindingOf(results[arm], results[0], 0.95); };
  EXPECT_EQ(finding(1),
            "better against full: -0.1033 nats, 95 % interval -0.1177 to -0.0890 over 3 seeds: better is better.");
  EXPECT_THAT(finding(2), HasSubstr("over 3 seeds: worse is worse."));
  EXPECT_THAT(finding(3), HasSubstr("over 3 seeds: no difference is shown."));
  EXPECT_THAT(ResultsText(config, results), HasSubstr("no difference shown"));
}

TEST(SweepResults, SayWhatIsNotTunedAndWhatIsMissing) {
  const proto::SweepConfig config = ConfigOfTwo();
  ArmSurvey lacking = ArmOf("lacking", {2.9, 3.39, 3.9}, /*inside=*/false);
  lacking.seeds[1].result = RunResult{.end = RunResult::End::kDiverged, .reason = "step 7"};
  const std::vector<ArmResult> results =
      ResultsOf(config, {ArmOf("full", {3.0, 3.5, 4.0}), lacking, ArmOf("none", {})});
  EXPECT_THAT(results[1].not_tuned, ElementsAre("rate"));
  EXPECT_THAT(results[1].missing, ElementsAre("lacking/seed-2"));
  EXPECT_EQ(results[1].difference->count, 2);
  const std::string finding = FindingOf(results[1], results[0], 0.95);
  EXPECT_THAT(finding, HasSubstr(", but lacking is not tuned in rate, without the runs lacking/seed-2."));
  EXPECT_THAT(FindingOf(results[2], results[0], 0.95), HasSubstr("no difference can be given"));
  EXPECT_THAT(SweepPageHtml(config, results), HasSubstr("(an end: not tuned)"));
  // A loss that diverged is no number of JSON.
  const auto json = nlohmann::json::parse(ResultsJson(config, results));
  EXPECT_TRUE(json["arms"][1]["tunings"][0]["values"][2]["loss"].is_null());
  EXPECT_EQ(json["arms"][1]["seeds"][1]["diverged"], "step 7");
}

TEST(SweepResults, FactorsAreTakenToTheLossOfTheWorstArm) {
  const auto curves = [](double tokens_per_loss, double flops) {
    ArmRuns arm{.flops_per_token = flops};
    for (int i = 0; i <= 10; ++i) {
      const double tokens = 100.0 * i;
      arm.mean.push_back(
          {.tokens = tokens, .seconds = 2 * tokens, .value = 5 - tokens / tokens_per_loss, .last_tokens = tokens});
    }
    return arm;
  };
  const ArmFactors factors = FactorsOver(curves(1000, 10), curves(250, 20));
  EXPECT_NEAR(factors.tokens.factor, 4, 1e-9);
  EXPECT_NEAR(factors.seconds.factor, 4, 1e-9);
  EXPECT_NEAR(factors.flops.factor, 2, 1e-9);  // its tokens cost twice as much
  const ArmFactors unknown = FactorsOver(curves(1000, std::nan("")), curves(250, 20));
  EXPECT_EQ(unknown.flops.kind, report::SpeedUp::Kind::kUnknown);
}

TEST(SweepResults, AFigureMayBeOfALayer) {
  const isthmus::testing::TemporaryFolder folder;
  std::filesystem::create_directories(folder / "full/seed-1");
  std::ofstream lines(folder / "full/seed-1/metrics.jsonl");
  for (int step = 1; step <= 20; ++step) {
    lines << absl::StrCat("{\"step\":", step, ",\"tokens\":", 10 * step,
                          ",\"layers\":[{\"layer\":0,\"hidden_anisotropy\":", 0.01 * step,
                          "},{\"layer\":1,\"hidden_anisotropy\":0.5}]}\n");
  }
  lines.close();
  proto::SweepConfig config;
  config.set_folder(folder / ".");
  for (const char* key : {"layers/0/hidden_anisotropy", "layers/1/hidden_anisotropy", "layers/2/hidden_anisotropy"}) {
    config.add_figures()->set_key(key);
  }
  const ArmRuns runs = ReadArmRuns(config, ArmOf("full", {3.0}));
  ASSERT_EQ(runs.figures.size(), 3u);
  EXPECT_NEAR(runs.figures[0].last[0], 0.195, 1e-12);  // the mean of the last tenth
  EXPECT_EQ(runs.figures[1].last[0], 0.5);
  EXPECT_TRUE(std::isnan(runs.figures[2].last[0]));
}

}  // namespace
}  // namespace isthmus::sweep
