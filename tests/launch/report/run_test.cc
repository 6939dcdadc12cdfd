// Figures of the head's singular values lie at the tokens of the step whose head they are of, once each; parts of the
// vocabulary have shares of the energy, whatever version wrote them.
#include "launch/report/run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/support/program.h"

namespace isthmus::report {
namespace {

Run ReadLines(const std::string& lines) {
  testing::TemporaryFolder folder;
  const std::string run = folder / "run";
  std::filesystem::create_directories(run);
  std::ofstream(run + "/metrics.jsonl") << lines;
  auto read = ReadRun(run);
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
  // Of the record's own step.
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
  // What was not measured is no share.
  EXPECT_EQ(PointsOf(run.shards[0].retained_energy_share), (Points{{10, 0.1}}));
  EXPECT_EQ(PointsOf(run.shards[1].retained_energy_share), (Points{{10, 0.9}}));
}

}  // namespace
}  // namespace isthmus::report
