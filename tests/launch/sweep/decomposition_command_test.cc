// `isthmus sweep` with decompositions, by real programs.
#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/support/paths.h"
#include "tests/support/program.h"

namespace isthmus::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

class SweepDecompositions : public ::testing::Test {
 protected:
  SweepDecompositions() { project_.WriteConfig("base"); }
  // One arm with two seeds, and a checkpoint that leads to the run of one of them.
  void Write(const std::string& decomposition, const std::string& more = "arms { name: 'full' } seeds: [1, 2]") const {
    WriteText(project_ / "sweep.textproto",
              absl::StrCat("base: 'base.textproto' folder: '", project_ / "sweep",
                           "'\nset: 'schedule.steps=2' set: 'telemetry.tensorboard=false'\n", more,
                           " decomposition { resamples: 20 control_draws: 2 ", decomposition, " }"));
  }
  ProgramResult Sweep(const std::string& options = "") const {
    return RunIsthmus(absl::StrCat("sweep --config ", project_ / "sweep.textproto", " ", options));
  }
  json Decompositions() const { return json::parse(ReadText(project_ / "sweep/results.json"))["decompositions"]; }
  // The files with figures, and when they were last written.
  std::map<std::string, std::filesystem::file_time_type> Figures() const {
    std::map<std::string, std::filesystem::file_time_type> figures;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(project_ / "sweep")) {
      if (entry.path().filename() == "figures.json") figures[entry.path().string()] = entry.last_write_time();
    }
    return figures;
  }
  void Link(const std::string& to, const std::string& name) const {
    std::filesystem::remove(project_ / name);
    std::filesystem::create_directory_symlink(project_ / to, project_ / name);
  }

  TinyProject project_;
};

TEST_F(SweepDecompositions, AreMadeOnceFailedOnesWhenAskedAndOfOtherSettingsAnew) {
  const std::string given = "sequence_lengths: [16, 32] checkpoints { name: 'given' path: 'given' corpus: 'nowhere' }";
  Link("sweep/full/seed-1", "given");
  Write("tokens: 256 " + given);
  EXPECT_THAT(Sweep("--plan").out, HasSubstr("2 decompositions, and 4 after their runs\n"));
  const ProgramResult first = Sweep("--jobs 2");
  EXPECT_EQ(first.exit_status, 2) << first.out;
  EXPECT_EQ(first.Count(": decomposed, "), 4) << first.out;
  EXPECT_THAT(first.out, HasSubstr("checkpoints/given/context-16: failed: exit status 2: isthmus: "));
  EXPECT_THAT(first.out, HasSubstr("2 decompositions failed; --retry-failed runs them again"));
  const json found = Decompositions();
  ASSERT_EQ(found.size(), 6u);
  EXPECT_EQ(found[1]["seed"], 1);
  EXPECT_EQ(found[1]["sequence_length"], 32);
  EXPECT_EQ(found[1]["tokens"], 256);
  const json figures =
      json::parse(ReadText(project_ / "sweep/decompositions/runs/full/seed-1/context-32/figures.json"));
  EXPECT_NEAR(found[1]["alignment_gain"]["value"].get<double>(), figures["alignment_gain"].get<double>(), 1e-12);
  EXPECT_EQ(found[1]["rank"], figures["head_numerical_rank"]);
  EXPECT_NE(found[0]["alignment_gain"], found[1]["alignment_gain"]);
  EXPECT_NE(found[1]["alignment_gain"], found[3]["alignment_gain"]);
  EXPECT_THAT(found[4]["problem"].get<std::string>(), HasSubstr("nowhere"));
  EXPECT_THAT(ReadText(project_ / "sweep/report.html"), HasSubstr("checkpoints/given/context-16: exit status 2"));

  // A cause that is gone helps those alone, and only when asked.
  const auto made = Figures();
  Link("tokens/validation", "nowhere");
  const ProgramResult again = Sweep();
  EXPECT_EQ(again.exit_status, 2) << again.out;
  EXPECT_EQ(again.Count(": decomposed, "), 0) << again.out;
  const ProgramResult retried = Sweep("--retry-failed --jobs 2");
  EXPECT_EQ(retried.exit_status, 0) << retried.out;
  EXPECT_EQ(retried.Count(": decomposed, "), 2) << retried.out;
  for (const auto& [path, time] : made) EXPECT_EQ(Figures().at(path), time) << path;
  EXPECT_EQ(Decompositions()[5]["alignment_gain"], Decompositions()[1]["alignment_gain"]) << "the same checkpoint";

  // Another checkpoint in the same place is another one.
  Link("sweep/full/seed-2", "given");
  EXPECT_THAT(Sweep("--plan").out, HasSubstr("2 decompositions, and 0 after their runs\n"));
  const ProgramResult moved = Sweep("--jobs 2");
  EXPECT_EQ(moved.exit_status, 0) << moved.out;
  EXPECT_EQ(moved.Count(": decomposed, "), 2) << moved.out;
  EXPECT_EQ(Decompositions()[5]["alignment_gain"], Decompositions()[3]["alignment_gain"]);

  // Other settings make all of them anew, by two workers that share them, after a first one was interrupted.
  Write("tokens: 128 " + given);
  const std::string command = absl::StrCat(ProgramPath(), " sweep --config ", project_ / "sweep.textproto");
  const ProgramResult stopped = RunShell(absl::StrCat(
      command, " >", project_ / "out", " 2>&1 & sweep=$!; until grep -q decomposed, ", project_ / "out",
      "; do sleep 0.02; done; kill -TERM $sweep; wait $sweep; status=$?; cat ", project_ / "out", "; exit $status"));
  EXPECT_EQ(stopped.exit_status, 5) << stopped.out;
  EXPECT_THAT(stopped.out, HasSubstr("SIGTERM: the sweep's runs have ended; start it again for the decompositions"));
  EXPECT_THAT(ReadText(project_ / "sweep/report.html"), HasSubstr("has not been made yet"));
  const ProgramResult both = RunShell(absl::StrCat("export OMP_NUM_THREADS=1\n", command, " & ", command,
                                                   "; status=$?; wait $! || status=$?; "
                                                   "exit $status"));
  EXPECT_EQ(both.exit_status, 0) << both.out;
  EXPECT_EQ(stopped.Count(": decomposed, ") + both.Count(": decomposed, "), 6) << both.out;
  for (const json& one : Decompositions()) EXPECT_EQ(one["tokens"], 128) << one.dump(1);
  EXPECT_THAT(ReadText(project_ / "sweep/report.html"), Not(HasSubstr("has not been made yet")));

  // A list of checkpoints needs no runs.
  Write("checkpoints { name: 'one' path: 'given' corpus: 'nowhere' } tokens: 64", "");
  std::filesystem::rename(project_ / "sweep", project_ / "runs");
  Link("runs/full/seed-1", "given");
  const ProgramResult lone = Sweep();
  EXPECT_EQ(lone.exit_status, 0) << lone.out;
  ASSERT_EQ(Decompositions().size(), 1u);
  EXPECT_EQ(Decompositions()[0]["sequence_length"], 32) << "the model's own";
}

TEST_F(SweepDecompositions, ALostOneIsTriedAgainSoManyTimes) {
  // It kills decompositions as long as there is a reason.
  const std::string launcher = project_ / "launcher", reason = project_ / "reason";
  WriteText(launcher, absl::StrCat("#!/bin/sh\nif [ \"$2\" = decompose ] && [ -e ", reason,
                                   " ]; then kill -KILL $$; fi\nexec \"$@\"\n"));
  std::filesystem::permissions(launcher, std::filesystem::perms::owner_all);
  WriteText(reason, "");
  Write("tokens: 64", "arms { name: 'full' } seeds: 1");
  const std::string options = absl::StrCat("--lost-runs 1 --launcher ", launcher, " ");
  const ProgramResult first = Sweep(options);
  EXPECT_EQ(first.exit_status, 4) << first.out;
  EXPECT_THAT(first.out, HasSubstr("runs/full/seed-1/context-own: lost (1 of 1 times before it counts as failed): "));
  const ProgramResult second = Sweep(options);
  EXPECT_EQ(second.exit_status, 2) << second.out;
  EXPECT_THAT(second.out, HasSubstr("1 decomposition failed; --retry-failed runs them again"));
  // Asked for anew it has all its tries again, and is no failure until then.
  EXPECT_EQ(Sweep(options + "--retry-failed").exit_status, 4);
  std::filesystem::remove(reason);
  const ProgramResult last = Sweep(options);
  EXPECT_EQ(last.exit_status, 0) << last.out;
  EXPECT_THAT(last.out, HasSubstr("1 of 1 decompositions, 0:00 left\n"));
}

TEST_F(SweepDecompositions, OfRunsThatLeaveNoCheckpointAreRefusedBeforeARun) {
  Write("", "arms { name: 'full' } arms { name: 'bare' set: 'checkpoint.save_final=false' } seeds: 1");
  const ProgramResult refused = Sweep();
  EXPECT_EQ(refused.exit_status, 2) << refused.out;
  EXPECT_THAT(refused.out, HasSubstr("arm bare: checkpoint.save_final: false; accepts true for an arm that is "));
  EXPECT_FALSE(std::filesystem::exists(project_ / "sweep"));
  // Runs that only find a setting, and arms that are left out, need none.
  Write(
      "without: 'bare'",
      "arms { name: 'full' } arms { name: 'bare' set: 'checkpoint.save_final=false' } seeds: 1 tunings { name: 'rate' "
      "set: 'optimizer.learning_rate={}' values: 0.01 while_tuning: 'checkpoint.save_final=false' }");
  const ProgramResult plan = Sweep("--plan");
  EXPECT_EQ(plan.exit_status, 0) << plan.out;
  EXPECT_THAT(plan.out, HasSubstr("0 decompositions, and 1 after their runs\n"));
}

}  // namespace
}  // namespace isthmus::testing
