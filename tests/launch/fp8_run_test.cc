// Whole runs with 8-bit layers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/support/program.h"
#include "tests/support/run_folder.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;

constexpr char kFp8[] = " --set precision.compute=BF16 --set precision.fp8_layers=true ";

TEST(Fp8Run, TrainsOnTwoShardsAndItsCheckpointCanBeSampledByAnyNumberOfRanks) {
  const TinyProject project;
  const ProgramResult result =
      RunIsthmus(std::string("train") + kFp8 + "--set mesh.tensor=2 --config " + project.WriteConfig("fp8"), 2);
  ASSERT_EQ(result.exit_status, 0) << result.out;
  EXPECT_THAT(ReadText(project / "fp8/config.textproto"), HasSubstr("fp8_layers: true"));
  const auto last = Records(project / "fp8").back();
  EXPECT_GT(last["train/loss"], 0);
  EXPECT_LT(last["train/loss"], std::log(300) - 1);
  // Four ranks hold parts that 8-bit products could not take.
  for (const int ranks : {0, 4}) {
    const ProgramResult sampled =
        RunIsthmus("sample --device cpu --tokens 3 --prompt the --checkpoint " + (project / "fp8"), ranks);
    EXPECT_EQ(sampled.exit_status, 0) << sampled.out;
  }
  // Its hidden states come from 8-bit products, too, whose rounding depends on what is multiplied together.
  const ProgramResult decomposed =
      RunIsthmus("decompose --checkpoint " + (project / "fp8") + " --corpus " + (project / "tokens/validation") +
                 " --tokens 512 --json " + (project / "head.json"));
  ASSERT_EQ(decomposed.exit_status, 0) << decomposed.out;
  const auto head = nlohmann::json::parse(ReadText(project / "head.json"));
  EXPECT_NEAR(head["loss"], last["validation/loss"].get<double>(), 0.05);
  EXPECT_NEAR(head["lost_norm_ratio"], last["head/lost_norm_ratio"].get<double>(), 0.05);
  const ProgramResult refused =
      RunIsthmus("train --set precision.fp8_layers=true --config " + project.WriteConfig("refused"));
  EXPECT_EQ(refused.exit_status, 2);
  EXPECT_THAT(refused.out, HasSubstr("precision.fp8_layers: true; needs precision.compute BF16"));
}

}  // namespace
}  // namespace isthmus::testing
