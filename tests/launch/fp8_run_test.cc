// Whole runs with 8-bit layers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "tests/support/program.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;

constexpr char kFp8[] = " --set precision.compute=BF16 --set precision.fp8_layers=true ";

double LastLoss(const std::string& run) {
  double loss = -1;
  std::istringstream lines(ReadText(run + "/metrics.jsonl"));
  for (std::string line; std::getline(lines, line);) loss = nlohmann::json::parse(line).value("train/loss", loss);
  return loss;
}

TEST(Fp8Run, TrainsOnTwoShardsAndItsCheckpointCanBeSampledByAnyNumberOfRanks) {
  const TinyProject project;
  const ProgramResult result =
      RunIsthmus(std::string("train") + kFp8 + "--set mesh.tensor=2 --config " + project.WriteConfig("fp8"), 2);
  ASSERT_EQ(result.exit_status, 0) << result.out;
  EXPECT_THAT(ReadText(project / "fp8/config.textproto"), HasSubstr("fp8_layers: true"));
  const double loss = LastLoss(project / "fp8");
  EXPECT_GT(loss, 0);
  EXPECT_LT(loss, std::log(300) - 1);
  // Four ranks hold parts that 8-bit products could not take.
  for (const int ranks : {0, 4}) {
    const ProgramResult sampled =
        RunIsthmus("sample --device cpu --tokens 3 --prompt the --checkpoint " + (project / "fp8"), ranks);
    EXPECT_EQ(sampled.exit_status, 0) << sampled.out;
  }
  const ProgramResult refused =
      RunIsthmus("train --set precision.fp8_layers=true --config " + project.WriteConfig("refused"));
  EXPECT_EQ(refused.exit_status, 2);
  EXPECT_THAT(refused.out, HasSubstr("precision.fp8_layers: true; needs precision.compute BF16"));
}

}  // namespace
}  // namespace isthmus::testing
