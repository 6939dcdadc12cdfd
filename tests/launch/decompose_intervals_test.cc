// `isthmus decompose` of a checkpoint with intervals, controls and another context; and what is refused.
#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/support/paths.h"
#include "tests/support/program.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;

class DecomposeIntervals : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    project_ = new TinyProject;
    const ProgramResult trained =
        RunIsthmus(absl::StrCat("train --config ", project_->WriteConfig("run"), " --set schedule.steps=8"));
    ASSERT_EQ(trained.exit_status, 0) << trained.out;
  }
  static void TearDownTestSuite() { delete project_; }

  static ProgramResult Decompose(const std::string& more, int ranks = 0) {
    return RunIsthmus(absl::StrCat("decompose --checkpoint ", *project_ / "run", " --corpus ",
                                   *project_ / "tokens/validation", " --tokens 512 ", more),
                      ranks);
  }
  static nlohmann::json FiguresWith(const std::string& more, int ranks = 0) {
    const ProgramResult result = Decompose(more, ranks);
    EXPECT_EQ(result.exit_status, 0) << result.out;
    return result.exit_status == 0 ? nlohmann::json::parse(result.out) : nlohmann::json();
  }

  static TinyProject* project_;
};
TinyProject* DecomposeIntervals::project_ = nullptr;

// Compares every number below two objects of the same form.
void ExpectNearFigures(const nlohmann::json& found, const nlohmann::json& wanted, double tolerance) {
  const nlohmann::json a = found.flatten(), b = wanted.flatten();
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [name, value] : b.items()) {
    ASSERT_TRUE(a.contains(name)) << name;
    if (!value.is_number()) {
      EXPECT_EQ(a[name], value) << name;
      continue;
    }
    EXPECT_NEAR(a[name].get<double>(), value.get<double>(), tolerance * (1 + std::abs(value.get<double>()))) << name;
  }
}

TEST_F(DecomposeIntervals, AreOfSequencesAndTheSameOnAnyMesh) {
  const std::string options = "--bootstrap 200 --controls 2 ";
  const nlohmann::json alone = FiguresWith(options);
  ASSERT_TRUE(alone.contains("bootstrap"));
  const nlohmann::json& bootstrap = alone["bootstrap"];
  EXPECT_EQ(bootstrap["resamples"], 200);
  EXPECT_EQ(bootstrap["blocks"].get<int64_t>() * bootstrap["block_tokens"].get<int64_t>(), alone["tokens"]);
  int64_t tokens = 0;
  for (const auto& bucket : bootstrap["target_buckets"]) tokens += bucket["tokens"].get<int64_t>();
  EXPECT_EQ(tokens, alone["tokens"]);
  for (const char* name : {"lost_norm_ratio", "visible_cosine", "alignment_gain", "lost_energy_ratio"}) {
    SCOPED_TRACE(name);
    EXPECT_NEAR(bootstrap[name]["value"].get<double>(), alone[name].get<double>(), 1e-12);
    EXPECT_LT(bootstrap[name]["low"], bootstrap[name]["value"]);
    EXPECT_GT(bootstrap[name]["high"], bootstrap[name]["value"]);
  }
  const nlohmann::json& controls = alone["controls"];
  EXPECT_EQ(controls["random_head"]["visible_cosines"].size(), 2u);
  EXPECT_NEAR(controls["random_head"]["visible_cosine"]["mean"].get<double>(),
              controls["isotropic_visible_cosine"].get<double>(), 0.05);
  EXPECT_EQ(controls["isotropic_lost_norm_ratio"], alone["isotropic_lost_norm_ratio"]);
  const auto expect_same = [&](const std::string& mesh, int ranks, double tolerance) {
    SCOPED_TRACE(absl::StrCat(mesh, ", ranks ", ranks));
    const nlohmann::json found = FiguresWith(options + mesh, ranks);
    ExpectNearFigures(found["bootstrap"], bootstrap, tolerance);
    ExpectNearFigures(found["controls"], controls, tolerance);
  };
  for (const char* mesh : {"--tensor 2", "--data 2", "--tensor 2 --data 2", "--tensor 3"}) expect_same(mesh, 0, 1e-9);
  expect_same("--data 2", 2, 1e-9);
  // The tensor ranks of a layer sum in fp32.
  expect_same("--tensor 2", 2, 1e-3);
}

TEST_F(DecomposeIntervals, AreLeftOutUnlessTheyAreAskedFor) {
  const nlohmann::json figures = FiguresWith("");
  EXPECT_FALSE(figures.contains("bootstrap"));
  EXPECT_FALSE(figures.contains("controls"));
}

TEST_F(DecomposeIntervals, AContextMayBeShorterOrLongerThanTheRuns) {
  const nlohmann::json own = FiguresWith("--bootstrap 10"), same = FiguresWith("--sequence-length 0");
  const auto length = own["bootstrap"]["block_tokens"].get<int64_t>();
  EXPECT_EQ(same["loss"], own["loss"]);
  EXPECT_EQ(FiguresWith(absl::StrCat("--sequence-length ", length))["loss"], own["loss"]);
  for (const int64_t other : {int64_t{1}, length / 2, 2 * length}) {
    SCOPED_TRACE(other);
    const nlohmann::json found = FiguresWith(absl::StrCat("--bootstrap 10 --sequence-length ", other));
    EXPECT_EQ(found["bootstrap"]["block_tokens"], other);
    EXPECT_EQ(found["bootstrap"]["blocks"].get<int64_t>() * other, found["tokens"]);
    EXPECT_NE(found["loss"], own["loss"]);
  }
  // A token without a context has one of V hidden states, whatever came before it.
  const nlohmann::json lone = FiguresWith("--sequence-length 1 --data 2");
  EXPECT_NEAR(lone["lost_norm_ratio"].get<double>(), FiguresWith("--sequence-length 1", 2)["lost_norm_ratio"], 1e-9);
}

TEST_F(DecomposeIntervals, WrongSettingsAreRefused) {
  const auto refused = [](const std::string& more, const std::string& says) {
    SCOPED_TRACE(more);
    const ProgramResult result = Decompose(more);
    EXPECT_EQ(result.exit_status, 2) << result.out;
    EXPECT_THAT(result.out, HasSubstr(says));
  };
  refused("--bootstrap -1", "--bootstrap: -1; accepts 0 to 100000");
  refused("--bootstrap 100001", "--bootstrap: 100001; accepts 0 to 100000");
  refused("--bootstrap many", "--bootstrap");
  refused("--controls 1", "--controls: 1; accepts 0 (none), and 2 to 10000");
  refused("--controls -2", "--controls: -2; accepts");
  refused("--controls 10001", "--controls: 10001; accepts");
  refused("--block 8", "--block: a checkpoint's are its sequences");
  refused("--sequence-length -1", "--sequence-length: -1; accepts 1 to 16777216");
  refused("--sequence-length 16777217", "--sequence-length: 16777217; accepts 1 to 16777216");
  refused("--sequence-length 16777216", "a sample needs one more than");
  refused("--bootstrap 10 --tokens 1", "intervals need two blocks of tokens to resample");
}

TEST_F(DecomposeIntervals, WrongSettingsForTensorsAreRefused) {
  const auto refused = [](const std::string& more, const std::string& says) {
    const ProgramResult result = RunIsthmus("decompose --hidden h.npy --targets y.npy --head w.npy " + more);
    EXPECT_EQ(result.exit_status, 2) << result.out;
    EXPECT_THAT(result.out, HasSubstr(says));
  };
  refused("--sequence-length 8", "--sequence-length: tensors have their hidden states");
  refused("--block -1", "--block: -1; accepts 1 to 2147483648");
}

TEST_F(DecomposeIntervals, OfAHeadWithoutAMatrixAreRefused) {
  const ProgramResult trained = RunIsthmus(
      absl::StrCat("train --config ", project_->WriteConfig("levels"),
                   " --set schedule.steps=2 --set model.head.kind=hierarchical --set model.head.clusters.kind=order "
                   "--set model.head.clusters.count=11"));
  ASSERT_EQ(trained.exit_status, 0) << trained.out;
  const ProgramResult refused =
      RunIsthmus(absl::StrCat("decompose --checkpoint ", *project_ / "levels", " --corpus ",
                              *project_ / "tokens/validation", " --tokens 64 --jacobian-tokens 2 --controls 2"));
  EXPECT_EQ(refused.exit_status, 2) << refused.out;
  EXPECT_THAT(refused.out, HasSubstr("--bootstrap, --controls: leave them out; the head has no such figures: "));
}

}  // namespace
}  // namespace isthmus::testing
