// Figures, maps and regressions of arms whose runs are known.
#include "launch/sweep/regressions.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "launch/sweep/page.h"
#include "launch/sweep/results.h"
#include "launch/sweep/results_json.h"
#include "runtime/durable_file.h"
#include "tests/support/program.h"

namespace isthmus::sweep {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// Makes runs whose loss falls in a straight line, from 5 nats by `slope` each thousand tokens.
class SweepFigures : public ::testing::Test {
 protected:
  SweepFigures() {
    config_.set_baseline("full");
    config_.set_folder(folder_.path());
    for (const char* key : {"head/lost_norm_ratio", "head/alignment_gain"}) config_.add_figures()->set_key(key);
    proto::SweepRegression& regression = *config_.add_regressions();
    regression.set_name("lost");
    regression.add_figures("head/lost_norm_ratio");
  }

  // `figure` is that of the second seed's last record; the first seed's is lower by 0.01.
  ArmSurvey Arm(const std::string& name, double slope, double figure, const std::vector<std::string>& cell = {}) {
    ArmSurvey arm{.cell = cell, .arm = name};
    config_.add_arms()->set_name(name);
    for (int seed = 1; seed <= 2; ++seed) {
      const std::string run =
          absl::StrCat(cell.empty() ? "" : absl::StrCat(cell[0], cell[1], "/"), name, "/seed-", seed);
      const std::string folder = folder_ / run;
      std::filesystem::create_directories(folder);
      std::string lines =
          "{\"step\":0,\"run/commit\":\"4f2c\",\"run/device\":\"CPU\",\"run/processor\":\"fast\","
          "\"run/data\":\"00ab\",\"run/threads_per_rank\":1,\"run/causal_flops_per_token\":100}\n";
      for (int record = 0; record <= 20; ++record) {
        absl::StrAppend(&lines, "{\"step\":", record, ",\"tokens\":", 1000 * record, ",\"elapsed_seconds\":", record,
                        ",\"validation/loss\":", 5 - slope * record);
        // The last tenth of the records has the figure, those before something else.
        if (record > 0)
          absl::StrAppend(&lines, ",\"head/lost_norm_ratio\":",
                          absl::StrFormat("%.17g", record <= 18 ? 7 : figure - 0.01 * (2 - seed)));
        absl::StrAppend(&lines, "}\n");
      }
      EXPECT_TRUE(WriteDurably(folder + "/metrics.jsonl", lines).ok());
      arm.seeds.push_back(
          {.seed = static_cast<uint64_t>(seed), .run = run, .result = RunResult{.loss = 5 - 20 * slope}});
    }
    return arm;
  }

  testing::TemporaryFolder folder_;
  proto::SweepConfig config_;
};

TEST_F(SweepFigures, AreMeansOverSeedsAndDifferencesByPairs) {
  const std::vector<ArmResult> results = ResultsOf(config_, {Arm("full", 0.1, 0.98), Arm("wide", 0.05, 0.95)});
  ASSERT_EQ(results[0].figures.size(), 2);
  EXPECT_NEAR(results[0].figures[0].value(), 0.975, 1e-12);
  EXPECT_FALSE(results[0].figures[0].difference.has_value());
  EXPECT_NEAR(results[1].figures[0].difference->mean, -0.03, 1e-12);
  EXPECT_TRUE(std::isnan(results[1].figures[1].value()));
  // The slower arm comes to its end with twice the tokens.
  EXPECT_NEAR(results[0].factors->tokens.factor, 2, 1e-9);
  EXPECT_FALSE(results[1].factors.has_value());
  const auto json = nlohmann::json::parse(ResultsJson(config_, results));
  EXPECT_NEAR(json["arms"][1]["figures"]["head/lost_norm_ratio"]["mean"].get<double>(), 0.945, 1e-12);
  EXPECT_NEAR(json["arms"][0]["factors"]["flops"]["factor"].get<double>(), 2, 1e-9);
  EXPECT_EQ(json["commits"][0], "4f2c");
  EXPECT_EQ(json["data"][0], "00ab");
  EXPECT_THAT(SweepPageHtml(config_, results), HasSubstr("data 00ab; commit 4f2c; CPU (fast), 1 thread"));
}

TEST_F(SweepFigures, RegressTheLogarithmOfTokens) {
  // The worst arm ends at 5 - 20 · 0.02 = 4.6 nats after 20,000 tokens, the others are there after 400 / slope.
  const std::vector<double> slopes = {0.02, 0.04, 0.05, 0.08, 0.1};
  std::vector<ArmSurvey> arms;
  for (const double slope : slopes) arms.push_back(Arm(absl::StrCat("arm-", slope), slope, 1 - std::log(slope)));
  arms.push_back(Arm("other", 0.06, 9));
  config_.set_baseline("arm-0.02");
  config_.mutable_regressions(0)->add_without("other");
  const std::vector<ArmResult> results = ResultsOf(config_, arms);
  const std::vector<RegressionResult> regressions = RegressionsOf(config_, results);
  ASSERT_EQ(regressions.size(), 1);
  EXPECT_EQ(regressions[0].arms.size(), 5);
  EXPECT_THAT(regressions[0].left_out, ElementsAre("other: the sweep leaves it out"));
  ASSERT_TRUE(regressions[0].fits[0].line.ok()) << regressions[0].fits[0].line.status();
  for (size_t i = 0; i < slopes.size(); ++i) {
    EXPECT_NEAR(regressions[0].fits[0].points[i].second, std::log(400 / slopes[i]), 1e-9);
  }
  EXPECT_NEAR(regressions[0].fits[0].line->slope, 1, 1e-9);
  EXPECT_NEAR(regressions[0].fits[0].line->left_out_r_squared, 1, 1e-9);
  const std::string page = SweepPageHtml(config_, results);
  EXPECT_THAT(page, HasSubstr("head/lost_norm_ratio predicts tokens to the loss: slope +1, 95 % interval"));
  EXPECT_THAT(page, HasSubstr("Without other: the sweep leaves it out"));
  const auto json = nlohmann::json::parse(ResultsJson(config_, results));
  EXPECT_EQ(json["regressions"][0]["fits"][0]["count"], 5);
}

TEST_F(SweepFigures, AnArmWithoutTheFigureIsNoPoint) {
  config_.mutable_regressions(0)->set_figures(0, "head/alignment_gain");
  const std::vector<ArmResult> results = ResultsOf(config_, {Arm("full", 0.1, 0.98), Arm("wide", 0.05, 0.95)});
  const std::vector<RegressionResult> regressions = RegressionsOf(config_, results);
  EXPECT_THAT(regressions[0].left_out,
              ElementsAre("full: it has no head/alignment_gain", "wide: it has no head/alignment_gain"));
  EXPECT_FALSE(regressions[0].fits[0].line.ok());
  EXPECT_THAT(SweepPageHtml(config_, results), HasSubstr("no line can be given: a line: found 0 points"));
}

TEST_F(SweepFigures, AMapHasAPlaceForEachCombination) {
  for (const char* name : {"V", "D"}) {
    proto::SweepAxis& axis = *config_.add_axes();
    axis.set_name(name);
    for (const char* value : {"8", "16"}) axis.add_values()->set_name(value);
  }
  config_.clear_regressions();
  config_.mutable_figures(0)->set_map(true);
  config_.mutable_figures(0)->set_title("Share that is lost");
  std::vector<ArmSurvey> arms;
  double figure = 0.5;
  for (const char* v : {"8", "16"}) {
    for (const char* d : {"8", "16"}) {
      arms.push_back(Arm("full", 0.1, figure += 0.1, {v, d}));
      arms.push_back(Arm("wide", 0.1, 1.45 - figure, {v, d}));
    }
  }
  config_.mutable_arms()->DeleteSubrange(2, config_.arms_size() - 2);
  const std::string page = SweepPageHtml(config_, ResultsOf(config_, arms));
  EXPECT_THAT(page, HasSubstr("Share that is lost"));
  // Means over seeds are lower by 0.005: 0.595, 0.695, 0.795, 0.895 of `full`, shaded between the ends of both maps.
  EXPECT_THAT(
      page,
      HasSubstr("<th scope=\"row\">16</th><td style=\"--share:50%\">0.795</td><td style=\"--share:70%\">0.895</td>"));
  EXPECT_THAT(page, HasSubstr("0.595<br><small>full</small>"));
  EXPECT_THAT(page, HasSubstr("0.545<br><small>wide</small>"));
  config_.mutable_figures(0)->set_higher_is_better(true);
  EXPECT_THAT(SweepPageHtml(config_, ResultsOf(config_, arms)), HasSubstr("0.895<br><small>full</small>"));
  config_.mutable_figures(0)->set_map(false);
  EXPECT_THAT(SweepPageHtml(config_, ResultsOf(config_, arms)), Not(HasSubstr("best arm of each place")));
}

}  // namespace
}  // namespace isthmus::sweep
