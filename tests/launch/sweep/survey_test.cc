// The runs that a sweep needs, found from results alone.
#include "launch/sweep/survey.h"

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "launch/sweep/sweep_file.h"
#include "tests/support/program.h"

namespace isthmus::sweep {
namespace {

using isthmus::testing::TemporaryFolder;
using isthmus::testing::WriteText;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kTwoTunings[] = R"(
  base: 'base.textproto' set: 'batch.sequences=8' seeds: 1 seeds: 2 seeds: 3
  axes { name: 'V' values { name: '64' set: 'model.vocabulary=64' } values { name: '128' set: 'model.vocabulary=128' } }
  arms { name: 'full' } arms { name: 'rank-8' set: 'model.head.rank=8' }
  tunings { name: 'rate' set: 'optimizer.learning_rate={}' values: 0.001 values: 0.004 values: 0.016 seeds: 2 }
  tunings { name: 'head' set: "optimizer.groups+=name: 'head' parameters: 'head.*' learning_rate_factor: {}"
            values: 1 values: 4 extend: 1 }
)";

proto::SweepConfig SweepOf(const std::string& text) {
  const TemporaryFolder folder;
  WriteText(folder / "sweep.textproto", text);
  const auto config = LoadSweep(folder / "sweep.textproto");
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *config : proto::SweepConfig();
}

// The value of an override, of the last one that begins so.
double ValueOf(const PlannedRun& run, const std::string& beginning) {
  double value = 0;
  for (const std::string& override : run.overrides) {
    if (absl::StartsWith(override, beginning)) {
      EXPECT_TRUE(absl::SimpleAtod(override.substr(beginning.size()), &value));
    }
  }
  return value;
}
const char* const kRate = "optimizer.learning_rate=";
const char* const kHead = "optimizer.groups+=name: 'head' parameters: 'head.*' learning_rate_factor: ";

// Runs whatever is needed until nothing is, each run once. Returns how many there were.
int RunAll(const proto::SweepConfig& config, RunResults& results,
           const std::function<RunResult(const PlannedRun&)>& run) {
  for (int rounds = 0; rounds < 100; ++rounds) {
    bool complete = true;
    for (const ArmSurvey& arm : SurveyArms(config, results)) {
      for (const PlannedRun& needed : arm.needed) {
        complete = false;
        results.try_emplace(needed.name, run(needed));
      }
    }
    if (complete) return static_cast<int>(results.size());
  }
  ADD_FAILURE() << "the sweep does not end";
  return 0;
}

RunResult Finished(double loss) { return {.loss = loss}; }

TEST(SweepSurvey, TunesSettingBySettingAndRunsAllSeedsThen) {
  const proto::SweepConfig config = SweepOf(kTwoTunings);
  RunResults results;
  // The best rate lies inside the values, and the best factor of the head beyond them.
  const auto loss = [](const PlannedRun& run) {
    const double rate = std::log(ValueOf(run, kRate) / 0.003), head = ValueOf(run, kHead);
    return Finished(3 + rate * rate + (head == 0 ? 0 : std::abs(std::log(head / 14))) + 0.01 * ValueOf(run, "seed="));
  };
  // Three rates with two seeds, three factors with one, and the other two seeds, of four arms.
  EXPECT_EQ(RunAll(config, results, loss), 4 * (6 + 3 + 2));
  const std::vector<ArmSurvey> arms = SurveyArms(config, results);
  ASSERT_EQ(arms.size(), 4u);
  EXPECT_THAT(arms[1].cell, ElementsAre("64"));
  EXPECT_EQ(arms[1].arm, "rank-8");
  ASSERT_EQ(arms[1].tunings.size(), 2u);
  EXPECT_EQ(arms[1].tunings[0].best->rate, 0.004);
  EXPECT_TRUE(arms[1].tunings[0].best->inside);
  ASSERT_EQ(arms[1].tunings[1].values.size(), 3u);
  EXPECT_EQ(arms[1].tunings[1].best->rate, 16);
  EXPECT_FALSE(arms[1].tunings[1].best->inside);
  ASSERT_EQ(arms[1].seeds.size(), 3u);
  EXPECT_EQ(arms[1].seeds[2].run, "V=64/rank-8/rate=0.004,head=16/seed-3");
  EXPECT_THAT(arms[1].problems, IsEmpty());
}

TEST(SweepSurvey, OverridesComeInTheOrderOfTheFile) {
  const std::vector<ArmSurvey> arms = SurveyArms(SweepOf(kTwoTunings), {});
  ASSERT_EQ(arms.size(), 4u);
  ASSERT_EQ(arms[3].needed.size(), 6u);  // what depends on them waits
  EXPECT_EQ(arms[3].later, 2 + 3);
  EXPECT_EQ(arms[3].needed[5].name, "V=128/rank-8/rate=0.016/seed-2");
  EXPECT_THAT(arms[3].needed[5].overrides, ElementsAre("batch.sequences=8", "model.vocabulary=128", "model.head.rank=8",
                                                       "optimizer.learning_rate=0.016", "seed=2"));
}

// No run of one arm has the name of another run: it would take its result.
TEST(SweepSurvey, RunsHaveNamesOfTheirOwn) {
  const proto::SweepConfig config = SweepOf(kTwoTunings);
  RunResults results;
  std::map<std::string, std::vector<std::string>> runs;
  RunAll(config, results, [&](const PlannedRun& run) {
    const auto [found, added] = runs.try_emplace(run.name, run.overrides);
    EXPECT_TRUE(added || found->second == run.overrides) << run.name;
    return Finished(ValueOf(run, kRate) + ValueOf(run, kHead));
  });
  std::set<std::vector<std::string>> settings;
  for (const auto& [name, overrides] : runs) EXPECT_TRUE(settings.insert(overrides).second) << name;
}

TEST(SweepSurvey, WithoutTuningsRunsTheSeeds) {
  const proto::SweepConfig config = SweepOf("base: 'b' seeds: 7 seeds: 8 arms { name: 'a' } arms { name: 'b' }");
  RunResults results;
  EXPECT_EQ(RunAll(config, results, [](const PlannedRun& run) { return Finished(run.name[0]); }), 4);
  EXPECT_EQ(results.count("a/seed-7"), 1u);
  EXPECT_EQ(config.baseline(), "a");
}

TEST(SweepSurvey, AnArmIsNotTunedInASettingThatItLacks) {
  proto::SweepConfig config = SweepOf(kTwoTunings);
  config.mutable_tunings(1)->add_without("full");
  RunResults results;
  RunAll(config, results,
         [](const PlannedRun& run) { return RunResult{.loss = std::abs(ValueOf(run, kRate) - 0.004)}; });
  for (const ArmSurvey& arm : SurveyArms(config, results)) {
    SCOPED_TRACE(arm.arm);
    EXPECT_EQ(arm.tunings.size(), arm.arm == "full" ? 1 : 2);
    EXPECT_EQ(absl::StrContains(arm.seeds.at(0).run, "head="), arm.arm != "full");
  }
  // Runs that are to come: of one arm its seeds, of the other the values of the second setting too.
  const std::vector<ArmSurvey> arms = SurveyArms(config, {});
  EXPECT_EQ(arms[0].later, 3);
  EXPECT_EQ(arms[1].later, 5);
}

TEST(SweepSurvey, RunsThatTuneMayBeShorter) {
  proto::SweepConfig config = SweepOf(kTwoTunings);
  config.mutable_tunings(0)->add_while_tuning("schedule.steps=7");
  RunResults results;
  int shorter = 0;
  RunAll(config, results, [&](const PlannedRun& run) {
    const bool tunes_rate = ValueOf(run, "schedule.steps=") == 7;
    EXPECT_EQ(tunes_rate, absl::EndsWith(run.name, "-tuning")) << run.name;
    EXPECT_EQ(tunes_rate, !absl::StrContains(run.name, "head=")) << run.name;
    shorter += tunes_rate ? 1 : 0;
    return RunResult{.loss = std::abs(ValueOf(run, kRate) - 0.004)};
  });
  EXPECT_EQ(shorter, 4 * 3 * 2);  // arms in combinations, values, seeds
  for (const ArmSurvey& arm : SurveyArms(config, results)) EXPECT_EQ(arm.tunings[0].best->rate, 0.004);
}

TEST(SweepSurvey, ADivergedRunIsWorseThanAnyOther) {
  const proto::SweepConfig config = SweepOf(kTwoTunings);
  RunResults results;
  RunAll(config, results, [](const PlannedRun& run) {
    if (ValueOf(run, kRate) > 0.005) return RunResult{.end = RunResult::End::kDiverged, .reason = "step 3"};
    return Finished(1 / ValueOf(run, kRate) + ValueOf(run, kHead));
  });
  const TunedSetting rate = SurveyArms(config, results)[0].tunings[0];
  EXPECT_EQ(rate.best->rate, 0.004);
  EXPECT_TRUE(rate.best->inside);
  EXPECT_EQ(rate.values[2].loss, std::numeric_limits<double>::infinity());
}

TEST(SweepSurvey, AFailedRunIsLeftOutAndNamed) {
  const proto::SweepConfig config = SweepOf(kTwoTunings);
  RunResults results;
  RunAll(config, results, [](const PlannedRun& run) {
    if (run.name == "V=64/full/rate=0.016/seed-2" || run.name == "V=64/rank-8/rate=0.004,head=4/seed-3") {
      return RunResult{.end = RunResult::End::kFailed, .reason = "the disk is full"};
    }
    return Finished(3 + std::abs(std::log(ValueOf(run, kRate) / 0.004)) +
                    (ValueOf(run, kHead) == 0 ? 0 : std::abs(ValueOf(run, kHead) - 4)));
  });
  const std::vector<ArmSurvey> arms = SurveyArms(config, results);
  EXPECT_THAT(arms[0].problems, ElementsAre("V=64/full/rate=0.016/seed-2 failed: the disk is full"));
  EXPECT_EQ(arms[0].tunings[0].values.size(), 3u);  // by the other seed
  std::vector<std::string> missing;
  const auto difference = CompareArms(arms[1], arms[0], 0.95, missing);
  ASSERT_TRUE(difference.ok()) << difference.status();
  EXPECT_EQ(difference->count, 2);
  EXPECT_THAT(missing, ElementsAre("V=64/rank-8/rate=0.004,head=4/seed-3"));
}

// An arm whose every run fails is not tuned, needs nothing more, and leaves the others alone.
TEST(SweepSurvey, AnArmThatFailsAltogetherEndsNoOther) {
  const proto::SweepConfig config = SweepOf(kTwoTunings);
  RunResults results;
  RunAll(config, results, [](const PlannedRun& run) {
    if (absl::StrContains(run.name, "rank-8")) return RunResult{.end = RunResult::End::kFailed, .reason = "no memory"};
    return Finished(ValueOf(run, kRate));
  });
  const std::vector<ArmSurvey> arms = SurveyArms(config, results);
  EXPECT_TRUE(arms[1].complete());
  EXPECT_TRUE(arms[1].seeds.empty());
  EXPECT_THAT(arms[1].problems.back(), HasSubstr("rate: the best of 0 learning rates"));
  EXPECT_EQ(arms[0].seeds.size(), 3u);
  std::vector<std::string> missing;
  EXPECT_FALSE(CompareArms(arms[1], arms[0], 0.95, missing).ok());
}

TEST(SweepFile, OfWrongContentIsRefusedByName) {
  const TemporaryFolder folder;
  const auto message = [&](const std::string& text) {
    WriteText(folder / "s.textproto", text);
    return std::string(LoadSweep(folder / "s.textproto").status().message());
  };
  const std::string rest = " arms { name: 'a' } seeds: 1";
  EXPECT_THAT(message("bases: 'b'"), HasSubstr("s.textproto:1:6: "));
  EXPECT_THAT(message(rest), HasSubstr("base: \"\"; needs the path of a run configuration"));
  EXPECT_THAT(message("base: 'b' seeds: 1"), HasSubstr("arms: empty; needs one at least"));
  EXPECT_THAT(message("base: 'b' arms { name: 'a' }"), HasSubstr("seeds: empty"));
  EXPECT_THAT(message("base: 'b' seeds: 1" + rest), HasSubstr("seeds: a seed twice"));
  EXPECT_THAT(message("base: 'b' arms { name: 'a' }" + rest), HasSubstr("arms.name: \"a\"; accepts 1 to 100"));
  EXPECT_THAT(message("base: 'b' arms { name: '../up' }" + rest), HasSubstr("arms.name: \"../up\""));
  EXPECT_THAT(message("base: 'b' arms { name: 'c' set: 'x' }" + rest),
              HasSubstr("arms.set: \"x\"; accepts path=value"));
  EXPECT_THAT(message("base: 'b' set: 'seed=3'" + rest), HasSubstr("the sweep sets seed and folder"));
  EXPECT_THAT(message("base: 'b' baseline: 'c'" + rest), HasSubstr("baseline: \"c\"; accepts the name of an arm"));
  EXPECT_THAT(message("base: 'b' confidence: 1" + rest), HasSubstr("confidence: 1; accepts"));
  EXPECT_THAT(message("base: 'b' axes { name: 'V' }" + rest), HasSubstr("axes.values: empty"));
  const auto tuning = [&](const std::string& fields) {
    return message("base: 'b' tunings { name: 't' " + fields + " }" + rest);
  };
  EXPECT_THAT(tuning("values: 1"), HasSubstr("tunings.set: t; needs overrides, each with {}"));
  EXPECT_THAT(tuning("set: 'a=1' values: 1"), HasSubstr("tunings.set: t; needs overrides, each with {}"));
  EXPECT_THAT(tuning("set: 'a={}'"), HasSubstr("tunings.values: empty"));
  EXPECT_THAT(tuning("set: 'a={}' values: 0"), HasSubstr("tunings.values: 0; accepts finite numbers above 0"));
  EXPECT_THAT(tuning("set: 'a={}' values: 1 values: 1"), HasSubstr("tunings.values: 1; accepts"));
  EXPECT_THAT(tuning("set: 'a={}' values: 1 seeds: 2"), HasSubstr("tunings.seeds: 2"));
  EXPECT_THAT(tuning("set: 'a={}' values: 1 extend: -1"), HasSubstr("tunings.extend: -1"));
  EXPECT_THAT(tuning("set: 'a={}' values: 1 without: 'b'"),
              HasSubstr("tunings.without: \"b\"; accepts the name of an arm"));
  EXPECT_THAT(tuning("set: 'a={}' values: 1 while_tuning: 'seed=1'"), HasSubstr("tunings.while_tuning: \"seed=1\""));
  EXPECT_EQ(tuning("set: 'a={}' values: 1 without: 'a'"), "");
  EXPECT_THAT(message("base: 'b' figures { }" + rest), HasSubstr("figures.key: \"\"; accepts keys of metrics.jsonl"));
  EXPECT_THAT(message("base: 'b' figures { key: 'k' } figures { key: 'k' }" + rest), HasSubstr("figures.key: \"k\""));
  EXPECT_THAT(message("base: 'b' figures { key: 'k' map: true }" + rest),
              HasSubstr("figures.map: 0 axes; a map needs two"));
  EXPECT_THAT(message("base: 'b' regressions { name: 'r' }" + rest), HasSubstr("regressions.figures: empty"));
  EXPECT_THAT(message("base: 'b' regressions { name: 'r' figures: 'k' }" + rest),
              HasSubstr("regressions.figures: \"k\"; accepts keys of the sweep's figures"));
  const auto regression = [&](const std::string& fields) {
    return message("base: 'b' figures { key: 'k' } regressions { figures: 'k' " + fields + " }" + rest);
  };
  EXPECT_THAT(regression("name: 'r r'"), HasSubstr("regressions.name: \"r r\""));
  EXPECT_THAT(regression("name: 'r' without: 'z'"),
              HasSubstr("regressions.without: \"z\"; accepts the name of an arm"));
  EXPECT_EQ(regression("name: 'r' without: 'a'"), "");
  EXPECT_EQ(LoadSweep(folder / "none").status().code(), absl::StatusCode::kNotFound);
}

TEST(SweepFile, ItsBaseIsFoundFromItsOwnFolder) {
  const TemporaryFolder folder;
  WriteText(folder / "s.textproto", "base: '../configs/b.textproto' arms { name: 'a' } seeds: 1");
  const auto config = LoadSweep(folder / "s.textproto");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(config->base(), ::testing::EndsWith("configs/b.textproto"));
  EXPECT_THAT(config->base(), ::testing::Not(HasSubstr("..")));
}

}  // namespace
}  // namespace isthmus::sweep
