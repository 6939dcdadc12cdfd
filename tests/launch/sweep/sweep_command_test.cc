// `isthmus sweep`, with real runs.
#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/support/markup.h"
#include "tests/support/paths.h"
#include "tests/support/program.h"

namespace isthmus::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kArms[] = R"(
  question: "Does rank 4 lose?"
  arms { name: "full" } arms { name: "rank-4" set: "model.head.rank=4" }
  seeds: 1 seeds: 2
  tunings { name: "rate" set: "optimizer.learning_rate={}" values: 0.003 values: 0.01 values: 0.03 extend: 0 }
)";
constexpr int kRuns = 2 * (3 + 1);  // three rates with the first seed, and the other seed at the best

class SweepCommand : public ::testing::Test {
 protected:
  SweepCommand() {
    project_.WriteConfig("base", "checkpoint { save_final: false }");
    Write(kArms);
  }
  void Write(const std::string& arms) const {
    WriteText(project_ / "sweep.textproto",
              absl::StrCat("base: 'base.textproto' folder: '", project_ / "sweep",
                           "'\nset: 'schedule.steps=6' set: 'telemetry.tensorboard=false'\n", arms));
  }
  std::string Command(const std::string& options = "") const {
    return absl::StrCat("sweep --config ", project_ / "sweep.textproto", " ", options);
  }
  json Results() const { return json::parse(ReadText(project_ / "sweep/results.json")); }
  // The metrics files of all runs, with the times of their last change.
  std::map<std::string, std::filesystem::file_time_type> Runs() const {
    std::map<std::string, std::filesystem::file_time_type> runs;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(project_ / "sweep")) {
      if (entry.path().filename() == "metrics.jsonl") runs[entry.path().string()] = entry.last_write_time();
    }
    return runs;
  }

  TinyProject project_;
};

TEST_F(SweepCommand, ComparesTunedArmsAndNeverRepeatsARun) {
  const ProgramResult plan = RunIsthmus(Command("--plan"));
  EXPECT_EQ(plan.exit_status, 0) << plan.out;
  EXPECT_THAT(plan.out, HasSubstr("rank-4/rate=0.01/seed-1: schedule.steps=6 telemetry.tensorboard=false "
                                  "model.head.rank=4 optimizer.learning_rate=0.01 seed=1\n"));
  EXPECT_THAT(plan.out, HasSubstr("6 runs, and 4 at least after them\n"));

  const ProgramResult result = RunIsthmus(Command("--jobs 2"));
  ASSERT_EQ(result.exit_status, 0) << result.out;
  const auto runs = Runs();
  EXPECT_EQ(runs.size(), static_cast<size_t>(kRuns));
  EXPECT_EQ(result.Count(": loss "), kRuns) << result.out;
  EXPECT_THAT(result.out, HasSubstr("8 of 8 runs"));
  const json found = Results();
  EXPECT_EQ(found["question"], "Does rank 4 lose?");
  ASSERT_EQ(found["arms"].size(), 2u);
  const json& arm = found["arms"][1];
  EXPECT_EQ(arm["arm"], "rank-4");
  EXPECT_EQ(arm["tunings"][0]["values"].size(), 3u);
  EXPECT_EQ(arm["difference"]["count"], 2);
  EXPECT_FALSE(found["arms"][0].contains("difference"));
  // The difference is that of the losses, which are those of the runs' own records.
  double difference = 0;
  for (int seed = 0; seed < 2; ++seed) {
    difference +=
        (arm["seeds"][seed]["loss"].get<double>() - found["arms"][0]["seeds"][seed]["loss"].get<double>()) / 2;
  }
  EXPECT_NEAR(arm["difference"]["mean"].get<double>(), difference, 1e-12);
  const std::string record =
      ReadText(project_ / ("sweep/" + arm["seeds"][1]["run"].get<std::string>() + "/metrics.jsonl"));
  EXPECT_THAT(record, HasSubstr(absl::StrCat("\"validation/loss\":", json(arm["seeds"][1]["loss"]).dump())));

  const std::string page = ReadText(project_ / "sweep/report.html");
  const size_t main = page.find("<main>"), end = page.find("</main>");
  ASSERT_TRUE(main < end && end < page.size());
  EXPECT_EQ(WrongMarkup(page.substr(main, end + 7 - main)), "");
  EXPECT_THAT(page, HasSubstr("<h1>Does rank 4 lose?</h1>"));
  EXPECT_THAT(page, HasSubstr("rank-4 against full: "));
  EXPECT_THAT(page, HasSubstr("Tuning of rate"));

  const ProgramResult again = RunIsthmus(Command());
  EXPECT_EQ(again.exit_status, 0) << again.out;
  EXPECT_EQ(Runs(), runs);
  EXPECT_EQ(Results(), found);
}

// Whatever ends a sweep, the next start takes up what is there. Two at once share the work, here as ranks that
// know nothing of each other.
TEST_F(SweepCommand, GoesOnAfterAnInterruptionAndMayBeSeveral) {
  const std::string command = absl::StrCat(ProgramPath(), " ", Command());
  const ProgramResult stopped = RunShell(absl::StrCat(
      command, " >", project_ / "out", " 2>&1 & sweep=$!; until grep -q runs, ", project_ / "out",
      "; do sleep 0.05; done; kill -TERM $sweep; wait $sweep; status=$?; cat ", project_ / "out", "; exit $status"));
  EXPECT_EQ(stopped.exit_status, 5) << stopped.out;
  EXPECT_THAT(stopped.out, HasSubstr("SIGTERM: the sweep's runs have saved; start it again to go on"));
  const ProgramResult killed = RunShell(absl::StrCat("timeout --signal=KILL 0.5 ", command));
  EXPECT_NE(killed.exit_status, 0);

  const ProgramResult both = RunShell(absl::StrCat("export OMP_NUM_THREADS=1\n", LauncherPath(),
                                                   " --allow-run-as-root --oversubscribe -n 2 ", command));
  EXPECT_EQ(both.exit_status, 0) << both.out;
  EXPECT_EQ(Runs().size(), static_cast<size_t>(kRuns));
  const json shared = Results();
  // The results are those of one sweep alone.
  std::filesystem::remove_all(project_ / "sweep");
  const ProgramResult alone = RunIsthmus(Command());
  EXPECT_EQ(alone.exit_status, 0) << alone.out;
  EXPECT_EQ(Results(), shared);
}

TEST_F(SweepCommand, ReportsOtherArmsIfOneFailsOrDiverges) {
  Write(absl::StrCat("arms { name: 'full' } arms { name: 'lost' set: 'data.validation=", project_ / "nowhere",
                     "' } arms { name: 'wild' set: 'optimizer.learning_rate=1e30' } seeds: 1 seeds: 2"));
  const ProgramResult result = RunIsthmus(Command());
  EXPECT_EQ(result.exit_status, 2) << result.out;
  EXPECT_THAT(result.out, HasSubstr("lost/seed-1: failed: exit status 2: isthmus: "));
  EXPECT_THAT(result.out, HasSubstr("2 runs failed; --retry-failed runs them again"));
  const json found = Results();
  EXPECT_TRUE(found["arms"][0].contains("loss"));
  EXPECT_FALSE(found["arms"][1].contains("difference"));
  EXPECT_EQ(found["arms"][1]["missing"].size(), 2u);
  EXPECT_TRUE(found["arms"][2]["seeds"][0].contains("diverged")) << found.dump(1);

  // A cause that is gone helps those runs alone.
  const auto runs = Runs();
  std::filesystem::create_directory_symlink(project_ / "tokens/validation", project_ / "nowhere");
  EXPECT_EQ(RunIsthmus(Command()).exit_status, 2);
  const ProgramResult retried = RunIsthmus(Command("--retry-failed"));
  EXPECT_EQ(retried.exit_status, 0) << retried.out;
  EXPECT_TRUE(Results()["arms"][1].contains("difference"));
  for (const auto& [path, time] : runs)
    EXPECT_EQ(Runs().at(path) == time, path.find("lost") == std::string::npos) << path;
}

TEST_F(SweepCommand, RefusesWhatItCanNotRun) {
  const auto expect_refused = [&](const std::string& arms, const std::string& message) {
    Write(arms);
    const ProgramResult result = RunIsthmus(Command());
    EXPECT_EQ(result.exit_status, 2) << result.out;
    EXPECT_THAT(result.out, HasSubstr(message));
    EXPECT_THAT(result.out, Not(HasSubstr("runs,")));
  };
  expect_refused("seeds: 1 arms { name: 'a' set: 'model.with=3' }", "arm a: --set model.with=3: unknown field");
  expect_refused("seeds: 1 arms { name: 'a' } arms { name: 'b' set: 'model.heads=5' }", "arm b: ");
  expect_refused("seeds: 1", "arms: empty");
  EXPECT_FALSE(std::filesystem::exists(project_ / "sweep"));
  EXPECT_THAT(RunIsthmus(Command("--jobs 0")).out, HasSubstr("--jobs: found 0; accepts 1 to 1024"));

  Write("seeds: 1 arms { name: 'a' }");
  EXPECT_EQ(RunIsthmus(Command()).exit_status, 0);
  expect_refused("seeds: 1 arms { name: 'a' set: 'batch.sequences=4' }", "a/seed-1: holds a run of other settings");
}

}  // namespace
}  // namespace isthmus::testing
