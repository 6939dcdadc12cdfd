// `isthmus sweep --plan` on machines that are not there, against `isthmus plan`'s own figures.
#include "launch/sweep/sweep_plan.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "launch/plan/plan.h"
#include "launch/plan/plan_report.h"
#include "launch/sweep/sweep_file.h"
#include "runtime/config.h"
#include "tests/support/paths.h"
#include "tests/support/program.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class SweepPlan : public ::testing::Test {
 protected:
  // Returns the path of a sweep over the 2B model.
  std::string Write(const std::string& text) const {
    WriteText(folder_ / "sweep.textproto",
              absl::StrCat("base: '", Base(), "' folder: '", folder_ / "sweep", "'\n", text));
    return folder_ / "sweep.textproto";
  }
  static std::string Base() { return absl::StrCat(SourceFolder(), "/launch/configs/2b.textproto"); }
  static Plan PlanOfTwoBillion(const std::vector<std::string>& overrides, int world, const char* device = "h100") {
    auto plan = MakePlan(*LoadConfig(Base(), overrides), *GpuMachine(device), world, "2b");
    EXPECT_TRUE(plan.ok()) << plan.status();
    return *std::move(plan);
  }

  TemporaryFolder folder_;
};

TEST_F(SweepPlan, ListsEveryRunOfAWholeSweepOnce) {
  const auto config = sweep::LoadSweep(Write(
      "axes { name: 'D' values { name: 'a' } values { name: 'b' } } arms { name: 'x' } arms { name: 'y' } "
      "seeds: 1 seeds: 2 seeds: 3 "
      "tunings { name: 'rate' set: 'optimizer.learning_rate={}' values: 1e-3 values: 2e-3 values: 4e-3 seeds: 2 } "
      "tunings { name: 'decay' set: 'optimizer.weight_decay={}' values: 0.1 values: 0.2 extend: 9 }"));
  ASSERT_TRUE(config.ok()) << config.status();
  const std::vector<sweep::PlannedArm> arms = sweep::WholeSweep(*config);
  ASSERT_EQ(arms.size(), 4u);
  for (const sweep::PlannedArm& arm : arms) {
    // Three rates with two seeds; two decays with one; three seeds at the settings, of which one has run for the decay.
    EXPECT_EQ(arm.runs.size(), 3u * 2 + 2 + 2);
    std::set<std::string> names;
    for (const sweep::PlannedRun& run : arm.runs) names.insert(run.name);
    EXPECT_EQ(names.size(), arm.runs.size());
  }
}

TEST_F(SweepPlan, HasTheFiguresOfThePlanAndTheirSums) {
  const std::string path = Write(
      "arms { name: 'full' } arms { name: 'rank-32' set: 'model.head.rank=32' } seeds: 1 seeds: 2 "
      "tunings { name: 'rate' set: 'optimizer.learning_rate={}' values: 1e-4 values: 3e-4 values: 1e-3 }");
  const Plan full = PlanOfTwoBillion({}, 8), narrow = PlanOfTwoBillion({"model.head.rank=32"}, 8);
  const auto line = [](const char* arm, const Plan& plan) {
    return absl::StrFormat("%s: 8 × %s, %s; a step %.4g ms, a run %.4g hours; 4 runs, %.4g hours, %.4g device hours\n",
                           arm, plan.machine.device.name, FitText(plan), 1e3 * plan.step.time.Total(), plan.Hours(),
                           4 * plan.Hours(), 32 * plan.Hours());
  };
  const ProgramResult result = RunIsthmus(absl::StrCat("sweep --config ", path, " --plan --device h100 --world 8"));
  EXPECT_EQ(result.exit_status, 0) << result.out;
  EXPECT_THAT(result.out, HasSubstr("6 runs, and 4 at least after them\n\n" + line("full", full)));
  EXPECT_THAT(result.out, HasSubstr(line("rank-32", narrow)));
  const double hours = 4 * (full.Hours() + narrow.Hours());
  EXPECT_THAT(result.out,
              HasSubstr(absl::StrFormat("all: 8 runs, %.4g hours one after the other, %.4g device hours; tunings are "
                                        "not extended",
                                        hours, 8 * hours)));
  EXPECT_NE(line("", full), line("", narrow));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "sweep"));

  const ProgramResult without = RunIsthmus(absl::StrCat("sweep --config ", path, " --plan"));
  EXPECT_EQ(without.exit_status, 0) << without.out;
  EXPECT_THAT(without.out, Not(HasSubstr("hours")));
}

TEST_F(SweepPlan, RefusesAnArmThatDoesNotFitOrCanNotBeRun) {
  const std::string path = Write(
      "arms { name: 'full' } arms { name: 'large' set: 'batch.micro_batch=32' } "
      "arms { name: 'odd' set: 'mesh.tensor=3' } arms { name: 'more' set: 'schedule.steps=2000' } seeds: 1");
  const ProgramResult result = RunIsthmus(absl::StrCat("sweep --config ", path, " --plan --device h100 --world 8"));
  EXPECT_EQ(result.exit_status, 2) << result.out;
  const std::string fit = FitText(PlanOfTwoBillion({"batch.micro_batch=32"}, 8));
  EXPECT_THAT(fit, HasSubstr("DOES NOT FIT: "));
  EXPECT_THAT(result.out, HasSubstr("large: 8 × NVIDIA H100 SXM, " + fit));
  EXPECT_THAT(result.out, HasSubstr("isthmus: arm large: " + fit));
  EXPECT_THAT(result.out, HasSubstr(absl::StrCat("odd: ", Base(), " of odd/seed-1: mesh.tensor: ")));
  // The others are told all the same.
  EXPECT_THAT(result.out, HasSubstr("full: 8 × "));
  EXPECT_THAT(result.out, HasSubstr("more: 8 × "));
  EXPECT_THAT(result.out, HasSubstr("all: 3 runs"));
}

// A setting that changes memory and time has a line for each of its values.
TEST_F(SweepPlan, SumsOverTheValuesOfATuning) {
  const auto config =
      sweep::LoadSweep(Write("arms { name: 'full' } seeds: 1 seeds: 2 "
                             "tunings { name: 'steps' set: 'schedule.steps={}' values: 2000 values: 6000 }"));
  ASSERT_TRUE(config.ok()) << config.status();
  const sweep::SweepPlan plan = sweep::PlanSweep(*config, {.device = "h100", .world = "1"});
  EXPECT_TRUE(plan.status.ok()) << plan.status;
  const double hours = PlanOfTwoBillion({"schedule.steps=2000"}, 1).Hours();
  EXPECT_THAT(plan.text, HasSubstr(absl::StrFormat("a run %.4g hours; 2 runs", hours)));
  EXPECT_THAT(plan.text, HasSubstr(absl::StrFormat("a run %.4g hours; 1 run,", 3 * hours)));
  EXPECT_THAT(plan.text, HasSubstr(absl::StrFormat("all: 3 runs, %.4g hours", 5 * hours)));
}

TEST_F(SweepPlan, OfATinyModelNeedsItsVocabularyAndNoData) {
  WriteText(folder_ / "tiny.textproto",
            "model { layers: 2 width: 16 heads: 2 feed_forward: 32 } data { train: 'none' sequence_length: 16 } "
            "batch { sequences: 8 micro_batch: 8 } schedule { steps: 6 warmup_steps: 0 }");
  WriteText(folder_ / "tiny-sweep.textproto", "base: 'tiny.textproto' arms { name: 'full' } seeds: 1");
  const std::string command =
      absl::StrCat("sweep --config ", folder_ / "tiny-sweep.textproto", " --plan --device a100 ");
  const ProgramResult unknown = RunIsthmus(command);
  EXPECT_EQ(unknown.exit_status, 2) << unknown.out;
  EXPECT_THAT(unknown.out, HasSubstr("isthmus: arm full: "));
  EXPECT_THAT(unknown.out, HasSubstr("model.vocabulary: 0 takes it from the token shards, which a plan does not open"));
  const ProgramResult known = RunIsthmus(command + "--set model.vocabulary=300");
  EXPECT_EQ(known.exit_status, 0) << known.out;
  EXPECT_THAT(known.out, HasSubstr("full: 1 × NVIDIA A100"));
  EXPECT_THAT(known.out, HasSubstr("fits: "));
  EXPECT_THAT(known.out, HasSubstr("all: 1 runs"));
}

TEST_F(SweepPlan, OptionsOfMachinesNeedOne) {
  const std::string sweep = absl::StrCat("sweep --config ", Write("arms { name: 'full' } seeds: 1"), " ");
  for (const char* options : {"--device h100", "--plan --world 8", "--plan --memory-gbytes 40", "--world 2"}) {
    const ProgramResult result = RunIsthmus(sweep + options);
    EXPECT_EQ(result.exit_status, 2) << options;
    EXPECT_THAT(result.out, HasSubstr("--world and options of machines need --plan and --device")) << options;
  }
  for (const char* options : {"--plan --device h900", "--plan --device h100 --world 0",
                              "--plan --device h100 --world x", "--plan --device h100 --memory-gbytes 0"}) {
    EXPECT_EQ(RunIsthmus(sweep + options).exit_status, 2) << options;
  }
}

}  // namespace
}  // namespace isthmus::testing
