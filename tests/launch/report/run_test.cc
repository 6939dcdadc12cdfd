// Figures of the head's singular values lie at the tokens of the step that they belong to, once each. Parts of the
// vocabulary have shares of the energy, whatever version wrote them.
#include "launch/report/run.h"

#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/support/program.h"

namespace isthmus::report {
namespace {

Run ReadLines(const std::string& lines, const std::vector<std::string>& keys = {}) {
  testing::TemporaryFolder folder;
  const std::string run = folder / "run";
  std::filesystem::create_directories(run);
  std::ofstream(run + "/metrics.jsonl") << lines;
  auto read = ReadRun(run, keys);
  EXPECT_TRUE(read.ok()) << read.status();
  return *std::move(read);
}

std::vector<std::pair<double, double>> PointsOf(const Series& series) {
  std::vector<std::pair<double, double>> points;
  for (const SeriesPoint& point : series.points()) points.emplace_back(point.tokens, point.value);
  return points;
}

TEST(ReportRun, PutsSingularValuesWhereTheyWereFoundAndOnce) {
  const report::Run run = ReadLines(
      R"({"step":10,"tokens":1000,"head/singular_values_step":10,"head/condition":5,"head/row_anisotropy":0.1}
{"step":15,"tokens":1500,"head/singular_values_step":10,"head/condition":5,"head/row_anisotropy":0.2}
{"step":20,"tokens":2000,"head/singular_values_step":15,"head/condition":7,"head/row_anisotropy":0.3}
{"step":22,"tokens":2200,"head/singular_values_step":22,"head/condition":8,"head/row_anisotropy":0.4}
)");
  using Points = std::vector<std::pair<double, double>>;
  EXPECT_EQ(PointsOf(run.Figure("head/condition")), (Points{{1000, 5}, {1500, 7}, {2200, 8}}));
  // This figure lies at the record's own step.
  EXPECT_EQ(PointsOf(run.Figure("head/row_anisotropy")), (Points{{1000, 0.1}, {1500, 0.2}, {2000, 0.3}, {2200, 0.4}}));
}

TEST(ReportRun, PartsHaveSharesOfTheEnergyBeforeAndAfterTheHead) {
  const report::Run run = ReadLines(
      R"({"step":1,"tokens":10,"head/shards":[{"tp_rank":0,"logit_gradient_norm":3,"retained_gradient_norm":1},)"
      R"({"tp_rank":1,"logit_gradient_norm":1,"retained_gradient_norm":3,"lost_norm_ratio":0}]}
{"step":2,"tokens":20,"head/shards":[{"tp_rank":0,"logit_gradient_norm":1},{"tp_rank":1,"logit_gradient_norm":1}]}
)");
  ASSERT_EQ(run.shards.size(), 2u);
  using Points = std::vector<std::pair<double, double>>;
  EXPECT_EQ(PointsOf(run.shards[0].energy_share), (Points{{10, 0.9}, {20, 0.5}}));
  EXPECT_EQ(PointsOf(run.shards[1].energy_share), (Points{{10, 0.1}, {20, 0.5}}));
  // A figure that was not measured gives no share.
  EXPECT_EQ(PointsOf(run.shards[0].retained_energy_share), (Points{{10, 0.1}}));
  EXPECT_EQ(PointsOf(run.shards[1].retained_energy_share), (Points{{10, 0.9}}));
}

TEST(ReportRun, ListsHaveAFigureForEachOfTheirElements) {
  const report::Run run = ReadLines(
      R"({"step":1,"tokens":10,"updates":[{"part":"head","first_order_decrease":0.25},{"part":"blocks"},7,{"part":3}],)"
      R"("groups":[{"group":"rows","learning_rate":0.1,"parameters":5,"first_order_decrease":null}]}
{"step":2,"tokens":20,"updates":[{"part":"blocks","first_order_decrease":-1},{"part":"head","first_order_decrease":0.5}]}
{"step":3,"tokens":30,"updates":{"part":"head","first_order_decrease":9},"groups":null}
)");
  using Points = std::vector<std::pair<double, double>>;
  EXPECT_EQ(PointsOf(run.Figure("updates/head/first_order_decrease")), (Points{{10, 0.25}, {20, 0.5}}));
  EXPECT_EQ(PointsOf(run.Figure("updates/blocks/first_order_decrease")), (Points{{20, -1}}));
  EXPECT_EQ(PointsOf(run.Figure("groups/rows/learning_rate")), (Points{{10, 0.1}}));
  EXPECT_TRUE(run.Figure("groups/rows/first_order_decrease").empty());
  EXPECT_TRUE(run.Figure("groups/rows/parameters").empty());
}

TEST(ReportRun, LayersHaveProfilesAndTheFiguresThatAreNamed) {
  const std::string lines =
      R"({"step":1,"tokens":10,"layers":[{"layer":0,"gradient_norm":2,"hidden_anisotropy":0.5},)"
      R"({"layer":12,"gradient_norm":1,"hidden_anisotropy":0.75,"hidden_centred_anisotropy":0.25}]}
{"step":2,"tokens":20,"layers":[{"layer":0,"gradient_norm":3,"hidden_anisotropy":null},7,{"layer":"12"}]}
{"step":3,"tokens":30,"layers":[{"layer":0,"gradient_norm":4},{"layer":12,"hidden_anisotropy":0.125}]}
{"step":4,"tokens":40,"layers":{"layer":12,"hidden_anisotropy":9}}
)";
  const report::Run run =
      ReadLines(lines, {"layers/12/hidden_anisotropy", "layers/0/hidden_anisotropy", "layers/1/gradient_norm"});
  using Points = std::vector<std::pair<double, double>>;
  EXPECT_EQ(PointsOf(run.Figure("layers/12/hidden_anisotropy")), (Points{{10, 0.75}, {30, 0.125}}));
  EXPECT_EQ(PointsOf(run.Figure("layers/0/hidden_anisotropy")), (Points{{10, 0.5}}));
  EXPECT_EQ(run.Figure("layers/0/hidden_anisotropy").not_finite(), 1);
  EXPECT_TRUE(run.Figure("layers/1/gradient_norm").empty());
  EXPECT_TRUE(run.Figure("layers/12/gradient_norm").empty()) << "nobody asked for it";
  EXPECT_EQ(run.layer_gradient_norms.front(), std::pair(0.0, 4.0));
  EXPECT_EQ(run.layer_anisotropies.back(), std::pair(12.0, 0.125));
  EXPECT_TRUE(ReadLines(lines).figures.empty()) << "a report asks for none";
}

// Lines of `steps` records of 100 tokens each; the line of step `bad` has other tokens.
std::string LinesWithBadTokens(int steps, int bad, int64_t tokens) {
  std::string lines;
  for (int step = 1; step <= steps; ++step) {
    absl::StrAppend(&lines, "{\"step\":", step, ",\"tokens\":", step == bad ? tokens : 100 * step,
                    ",\"train/loss\":", 1000 - step, "}\n");
  }
  return lines;
}

TEST(ReportRun, ADamagedDigitInTokensCostsItsOwnRecord) {
  for (const int bad : {1, 2, 7, 12}) {
    for (const int64_t tokens : {int64_t{3}, int64_t{100} * bad + 9'000'000}) {
      const bool undetectable = bad == 1 && tokens < 100;
      const report::Run run = ReadLines(LinesWithBadTokens(20, bad, tokens));
      const auto points = PointsOf(run.Figure("train/loss"));
      EXPECT_EQ(points.size(), undetectable ? 20u : 19u) << bad << " " << tokens;
      for (const auto& [at, loss] : points) {
        EXPECT_TRUE(undetectable || at == 100 * (1000 - loss)) << bad << ": " << at << " " << loss;
      }
      EXPECT_EQ(run.tokens, 2000) << bad << " " << tokens;
      if (undetectable) continue;
      EXPECT_THAT(run.notes, ::testing::Contains(absl::StrCat("the tokens of line ", bad,
                                                              " of metrics.jsonl do not fit the step (damaged?): left "
                                                              "out")))
          << bad << " " << tokens;
      EXPECT_THAT(run.notes, ::testing::Not(::testing::Contains(::testing::HasSubstr("went back"))));
    }
  }
}

TEST(ReportRun, GoesBackWhereStepAndTokensDo) {
  // The last record before the run went back is damaged, too.
  const report::Run run = ReadLines(LinesWithBadTokens(10, 10, 12) + R"({"step":6,"tokens":600,"train/loss":5}
{"step":7,"tokens":700,"train/loss":4}
)");
  const auto points = PointsOf(run.Figure("train/loss"));
  ASSERT_EQ(points.size(), 7u);
  EXPECT_EQ(points[4], (std::pair<double, double>{500, 995}));
  EXPECT_EQ(points[5], (std::pair<double, double>{600, 5}));
  EXPECT_THAT(run.notes, ::testing::Contains(::testing::HasSubstr("went back to an earlier step 1 time")));
  EXPECT_THAT(run.notes, ::testing::Contains(::testing::HasSubstr("line 10 ")));
}

}  // namespace
}  // namespace isthmus::report
