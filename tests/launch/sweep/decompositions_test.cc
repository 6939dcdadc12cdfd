// Which decompositions a sweep asks for.
#include "launch/sweep/decompositions.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "launch/sweep/sweep_file.h"
#include "tests/support/program.h"

namespace isthmus::sweep {
namespace {

using ::isthmus::testing::TemporaryFolder;
using ::isthmus::testing::WriteText;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;

proto::SweepConfig ConfigWith(const std::string& decomposition) {
  const TemporaryFolder folder;
  WriteText(folder / "s.textproto",
            "base: 'b' folder: '/nowhere' arms { name: 'full' } arms { name: 'levels' } seeds: [1, 2] axes { name: 'V' "
            "values { name: '8' } values { name: '9' } } decomposition { " +
                decomposition + " }");
  const auto config = LoadSweep(folder / "s.textproto");
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *config : proto::SweepConfig();
}

ArmSurvey ArmWith(const std::string& name, const std::vector<RunResult::End>& ends) {
  ArmSurvey arm{.cell = {"8"}, .arm = name};
  uint64_t seed = 0;
  for (const RunResult::End end : ends) {
    ++seed;
    arm.seeds.push_back({seed, absl::StrCat("V=8/", name, "/seed-", seed), RunResult{.end = end}});
  }
  return arm;
}

std::vector<std::string> NamesOf(const std::vector<PlannedDecomposition>& planned) {
  std::vector<std::string> names;
  for (const PlannedDecomposition& one : planned) names.push_back(one.name);
  return names;
}

TEST(Decompositions, AreOfRunsThatFinishedAndOfNamedCheckpointsInEachContext) {
  const proto::SweepConfig config =
      ConfigWith("sequence_lengths: [16, 32] checkpoints { name: 'gpt' path: 'c/d' } without: 'levels'");
  using End = RunResult::End;
  const std::vector<ArmSurvey> arms = {ArmWith("full", {End::kFinished, End::kDiverged, End::kFailed}),
                                       ArmWith("levels", {End::kFinished})};
  const auto planned = PlanDecompositions(config, arms);
  EXPECT_THAT(NamesOf(planned), ElementsAre("runs/V=8/full/seed-1/context-16", "runs/V=8/full/seed-1/context-32",
                                            "checkpoints/gpt/context-16", "checkpoints/gpt/context-32"));
  EXPECT_EQ(planned[1].checkpoint, "/nowhere/V=8/full/seed-1");
  EXPECT_EQ(planned[1].sequence_length, 32);
  EXPECT_EQ(planned[1].seed, 1u);
  EXPECT_THAT(planned[1].cell, ElementsAre("8"));
  EXPECT_EQ(planned[3].given, "gpt");
  EXPECT_THAT(planned[3].checkpoint, EndsWith("/c/d"));
  EXPECT_EQ(FolderOfDecomposition(config, planned[3]), "/nowhere/decompositions/checkpoints/gpt/context-32");
  // Two values of an axis, two seeds, one arm, one checkpoint, two contexts.
  EXPECT_EQ(LaterDecompositions(config, 4), 2 * (2 * 2 + 1) - 4);

  proto::SweepConfig none = config;
  none.clear_decomposition();
  EXPECT_TRUE(PlanDecompositions(none, arms).empty());
  EXPECT_EQ(LaterDecompositions(none, 0), 0);
  EXPECT_THAT(NamesOf(PlanDecompositions(ConfigWith(""), {ArmWith("levels", {End::kFinished})})),
              ElementsAre("runs/V=8/levels/seed-1/context-own"));
}

TEST(Decompositions, SayTheirCommandLine) {
  const proto::SweepConfig config = ConfigWith("tokens: 100 resamples: 7 control_draws: 2");
  PlannedDecomposition planned{.name = "n", .checkpoint = "c", .corpus = "d", .sequence_length = 5};
  EXPECT_EQ(absl::StrJoin(ArgumentsOf(config, planned), " "),
            "decompose --checkpoint c --corpus d --tokens 100 --sequence-length 5 --bootstrap 7 --controls 2 "
            "--sample-tokens 256");
  planned.corpus.clear();
  EXPECT_THAT(absl::StrJoin(ArgumentsOf(config, planned), " "), HasSubstr("--checkpoint c --tokens"));
}

// A result is told from one of other settings by this alone.
TEST(Decompositions, ADigestIsOfEverySettingButNotOfThePlace) {
  const PlannedDecomposition planned{.name = "n", .checkpoint = "/c", .corpus = "d", .sequence_length = 5};
  std::set<std::string> digests = {DecompositionDigest(ConfigWith(""), planned)};
  for (const char* setting : {"tokens: 8000", "resamples: 400", "control_draws: 3"}) {
    EXPECT_TRUE(digests.insert(DecompositionDigest(ConfigWith(setting), planned)).second) << setting;
  }
  PlannedDecomposition other = planned;
  other.sequence_length = 6;
  EXPECT_TRUE(digests.insert(DecompositionDigest(ConfigWith(""), other)).second);
  other = planned;
  other.corpus = "e";
  EXPECT_TRUE(digests.insert(DecompositionDigest(ConfigWith(""), other)).second);
  other = planned;
  other.name = "m";
  other.checkpoint = "/elsewhere";
  EXPECT_FALSE(digests.insert(DecompositionDigest(ConfigWith(""), other)).second);
}

TEST(Decompositions, NeedRunsThatLeaveACheckpointAndHaveOneValidationPath) {
  proto::RunConfig run;
  run.mutable_data()->add_validation("v");
  EXPECT_TRUE(CheckLeavesCheckpoint(run).ok());
  run.mutable_checkpoint()->set_save_final(false);
  EXPECT_THAT(std::string(CheckLeavesCheckpoint(run).message()),
              HasSubstr("checkpoint.save_final: false; accepts true"));
  run.clear_checkpoint();
  run.mutable_data()->add_validation("w");
  EXPECT_THAT(std::string(CheckLeavesCheckpoint(run).message()), HasSubstr("data.validation: 2 paths; accepts one"));
  run.mutable_data()->clear_validation();
  EXPECT_FALSE(CheckLeavesCheckpoint(run).ok());
  run.mutable_data()->mutable_spamlang();
  EXPECT_TRUE(CheckLeavesCheckpoint(run).ok());
}

TEST(Decompositions, WrongOnesAreRefused) {
  const TemporaryFolder folder;
  const auto message = [&](const std::string& decomposition, const std::string& rest) {
    WriteText(folder / "s.textproto", "decomposition { " + decomposition + " } " + rest);
    return std::string(LoadSweep(folder / "s.textproto").status().message());
  };
  const std::string arms = "base: 'b' arms { name: 'a' } seeds: 1";
  EXPECT_EQ(message("", arms), "");
  EXPECT_THAT(message("checkpoints { name: '.' path: 'c' }", arms), HasSubstr("decomposition.checkpoints.name: \".\""));
  EXPECT_THAT(message("checkpoints { name: 'c' path: 'c' } checkpoints { name: 'c' path: 'd' }", arms),
              HasSubstr("decomposition.checkpoints.name: \"c\""));
  EXPECT_THAT(message("checkpoints { name: 'c' }", arms), HasSubstr("decomposition.checkpoints.path: \"\"; needs"));
  EXPECT_THAT(message("tokens: 0", arms), HasSubstr("decomposition.tokens: 0"));
  EXPECT_THAT(message("tokens: 63 sequence_lengths: 32", arms),
              HasSubstr("decomposition.sequence_lengths: 32; accepts"));
  EXPECT_THAT(message("sequence_lengths: [8, 8]", arms), HasSubstr("decomposition.sequence_lengths: 8; accepts"));
  EXPECT_THAT(message("sequence_lengths: 0", arms), HasSubstr("decomposition.sequence_lengths: 0; accepts"));
  EXPECT_THAT(message("resamples: 0", arms), HasSubstr("decomposition.resamples: 0"));
  EXPECT_THAT(message("control_draws: 1", arms), HasSubstr("decomposition.control_draws: 1; accepts 0 (none), and 2"));
  EXPECT_THAT(message("without: 'z'", arms), HasSubstr("decomposition.without: \"z\"; accepts the name of an arm"));

  // Without arms there must be checkpoints, and nothing that is of arms.
  EXPECT_THAT(message("", "base: 'b'"), HasSubstr("arms: empty"));
  const std::string one = "checkpoints { name: 'c' path: 'c' }";
  EXPECT_EQ(message(one, ""), "");
  for (const char* of_arms : {"seeds: 1", "axes { name: 'x' values { name: 'y' } }", "baseline: 'b'",
                              "figures { key: 'k' }", "tunings { name: 't' set: 'a={}' values: 1 }"}) {
    EXPECT_THAT(message(one, of_arms), HasSubstr("arms: empty; needs one")) << of_arms;
  }
}

}  // namespace
}  // namespace isthmus::sweep
