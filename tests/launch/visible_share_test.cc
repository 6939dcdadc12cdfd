// The shares of single tokens' gradients in a run's records, in `isthmus decompose`, and what is refused.
#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "tests/support/paths.h"
#include "tests/support/program.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;

class VisibleShare : public ::testing::Test {
 protected:
  // Trains some steps and returns the last record.
  nlohmann::json Train(const std::string& name, int ranks, const std::string& more) {
    const ProgramResult result = RunIsthmus(
        absl::StrCat("train --config ", project_.WriteConfig(name),
                     " --set schedule.steps=4 --set telemetry.interval=2", " --set telemetry.jacobian_tokens=5 ", more),
        ranks);
    EXPECT_EQ(result.exit_status, 0) << result.out;
    const std::string records = ReadText(project_ / (name + "/metrics.jsonl"));
    const size_t last = records.rfind('\n', records.size() - 2);
    return nlohmann::json::parse(records.substr(last == std::string::npos ? 0 : last + 1));
  }
  ProgramResult Decompose(const std::string& name, const std::string& more, int ranks = 0) {
    return RunIsthmus(absl::StrCat("decompose --checkpoint ", project_ / name, " --corpus ",
                                   project_ / "tokens/validation", " --tokens 256 ", more),
                      ranks);
  }

  TinyProject project_;
};

constexpr char kLevels[] =
    "--set model.head.kind=hierarchical --set model.head.clusters.kind=order "
    "--set model.head.clusters.count=11 ";

TEST_F(VisibleShare, OfAFullHeadIsRecordedAndDecomposed) {
  const nlohmann::json record = Train("full", 2, "--set mesh.tensor=2");
  EXPECT_EQ(record.at("visible_share/tokens"), 5);
  for (const char* cosine : {"visible_share/logit_cosine", "visible_share/log_probability_cosine"}) {
    EXPECT_GT(record.at(cosine), 0.0);
    EXPECT_LT(record.at(cosine), 1.0);
  }
  const ProgramResult plain = Decompose("full", "");
  EXPECT_EQ(plain.exit_status, 0) << plain.out;
  EXPECT_EQ(plain.Count("visible_share"), 0);
  // Over all tokens it is the visible cosine.
  const ProgramResult all = Decompose("full", "--jacobian-tokens 256");
  ASSERT_EQ(all.exit_status, 0) << all.out;
  const nlohmann::json figures = nlohmann::json::parse(all.out);
  EXPECT_EQ(figures.at("visible_share").at("tokens"), figures.at("tokens"));
  EXPECT_NEAR(figures.at("visible_share").at("logit_cosine"), figures.at("visible_cosine"), 1e-9);
}

TEST_F(VisibleShare, OfTwoLevelsIsAllThatIsMeasured) {
  const nlohmann::json record = Train("levels", 0, kLevels);
  EXPECT_EQ(record.at("visible_share/tokens"), 5);
  EXPECT_FALSE(record.contains("head/visible_cosine"));
  const ProgramResult refused = Decompose("levels", "");
  EXPECT_EQ(refused.exit_status, 2) << refused.out;
  EXPECT_THAT(refused.out, HasSubstr("whose classes depend on the target; --jacobian-tokens measures single tokens'"));
  const ProgramResult found = Decompose("levels", "--jacobian-tokens 7");
  ASSERT_EQ(found.exit_status, 0) << found.out;
  const nlohmann::json figures = nlohmann::json::parse(found.out);
  EXPECT_EQ(figures.at("visible_share").at("tokens"), 7);
  EXPECT_GT(figures.at("visible_share").at("log_probability_cosine"), 0.0);
  EXPECT_THAT(figures.at("not_measured"), HasSubstr("two levels"));
  EXPECT_EQ(figures.size(), 2u);
  const ProgramResult steps = Decompose("levels", "--jacobian-tokens 7 --equal-norm-steps");
  EXPECT_EQ(steps.exit_status, 2) << steps.out;
  EXPECT_THAT(steps.out, HasSubstr("--equal-norm-steps: leave it out"));
}

// Each sequence has its own tokens to point at, on whichever rank it is.
TEST_F(VisibleShare, OfACopyingHeadAreTheSameOnAnyMesh) {
  const nlohmann::json record =
      Train("copies", 2, "--set mesh.tensor=2 --set model.head.kind=copy --set model.head.copy_width=6");
  EXPECT_EQ(record.at("visible_share/tokens"), 5);
  const auto cosines = [&](const std::string& mesh, int ranks) {
    const ProgramResult result = Decompose("copies", "--jacobian-tokens 256 " + mesh, ranks);
    EXPECT_EQ(result.exit_status, 0) << result.out;
    const nlohmann::json shares = nlohmann::json::parse(result.out).at("visible_share");
    EXPECT_EQ(shares.at("tokens"), 256);
    return std::pair<double, double>(shares.at("logit_cosine"), shares.at("log_probability_cosine"));
  };
  const auto alone = cosines("", 0), apart = cosines("--data 2", 2), split = cosines("--tensor 2", 2);
  EXPECT_NEAR(apart.first, alone.first, 1e-9);
  EXPECT_NEAR(apart.second, alone.second, 1e-9);
  // The ranks of a layer sum in fp32.
  EXPECT_NEAR(split.first, alone.first, 1e-5);
  EXPECT_NEAR(split.second, alone.second, 1e-5);
}

TEST_F(VisibleShare, WrongSettingsAreRefused) {
  const ProgramResult negative = RunIsthmus(
      absl::StrCat("train --config ", project_.WriteConfig("negative"), " --set telemetry.jacobian_tokens=-1"));
  EXPECT_EQ(negative.exit_status, 2);
  EXPECT_THAT(negative.out, HasSubstr("telemetry.jacobian_tokens: -1; accepts 0 to 16384"));
  const ProgramResult many = Decompose("none", "--jacobian-tokens 16385");
  EXPECT_THAT(many.out, HasSubstr("--jacobian-tokens: 16385; accepts 0 to 16384"));
  const ProgramResult tensors = RunIsthmus("decompose --hidden h.npy --targets y.npy --head w.npy --jacobian-tokens 3");
  EXPECT_EQ(tensors.exit_status, 2);
  EXPECT_THAT(tensors.out, HasSubstr("--jacobian-tokens: tensors alone don't say what a head does"));
}

}  // namespace
}  // namespace isthmus::testing
