// NaN appears on one rank, and each policy has its effect on all.
#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "checkpoint/manifest.h"
#include "tests/support/program.h"
#include "tests/support/run_folder.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

struct TwoRanks {
  const char* name;
  const char* settings;
};
constexpr TwoRanks kMeshes[] = {
    {"tensor", "--set mesh.tensor=2"},
    {"data", "--set mesh.data=2 --set mesh.shard_optimizer=true --set precision.compute=BF16"}};
constexpr char kSkip[] = "--set stability.non_finite.policy=SKIP ";
constexpr char kRollback[] = "--set stability.non_finite.policy=ROLLBACK ";

class RefusedStep : public ::testing::Test {
 protected:
  // Skips and rollbacks must give, at both meshes, the result of a run that never sees three of the batches.
  static void SetUpTestSuite() {
    project_ = new TinyProject;
    for (const TwoRanks& mesh : kMeshes) {
      ASSERT_EQ(
          Train(absl::StrCat("without-", mesh.name), "", absl::StrCat(mesh.settings, " --set data.pass_over=3,7,9"))
              .exit_status,
          0);
    }
  }
  static void TearDownTestSuite() { delete project_; }

  // Trains twelve steps on two ranks, with a checkpoint every four.
  static ProgramResult Train(const std::string& name, const std::string& faults, const std::string& more) {
    return RunWithFaults(faults,
                         absl::StrCat("train --config ", project_->WriteConfig(name),
                                      " --set schedule.steps=12 --set checkpoint.interval=4 --set checkpoint.keep=9 "
                                      "--set telemetry.interval=7 ",
                                      more),
                         2);
  }
  static std::string Folder(const std::string& name) { return *project_ / name; }
  static std::string Checkpoint(const std::string& name, int step) {
    return absl::StrCat(Folder(name), "/checkpoints/step-000000", step < 10 ? "0" : "", step);
  }
  static void MakeUnreadable(const std::string& checkpoint) {
    std::filesystem::remove(checkpoint + "/manifest.pb");
    std::filesystem::create_directory(checkpoint + "/manifest.pb");
  }
  static std::string Log(const std::string& name, int rank) {
    return ReadText(absl::StrCat(Folder(name), "/log/rank-000", rank, ".log"));
  }
  static nlohmann::json LastRecord(const std::string& name) { return Records(Folder(name)).back(); }

  static void ExpectSameTensors(const std::string& a, const std::string& b) {
    for (const char* file : {"/rank-0000.tensors", "/rank-0001.tensors"}) {
      const std::string bytes = ReadText(a + file);
      EXPECT_FALSE(bytes.empty()) << a;
      EXPECT_TRUE(bytes == ReadText(b + file)) << a << " and " << b << file;
    }
  }
  // Compares both runs' records and their files, but for times and counts.
  static void ExpectSameRuns(const std::string& expected, const std::string& found) {
    EXPECT_EQ(Losses(Folder(found)), Losses(Folder(expected)));
    EXPECT_EQ(Records(Folder(found)).size(), 13u);
    ExpectSameTensors(Checkpoint(expected, 12), Checkpoint(found, 12));
  }
  static TinyProject* project_;
};
TinyProject* RefusedStep::project_ = nullptr;

TEST_F(RefusedStep, HaltingEndsAllRanksWithStatusThreeAndNamesRankAndTensor) {
  struct Case {
    TwoRanks mesh;
    std::string point, place;
  };
  for (const auto& [mesh, point, place] :
       {Case{kMeshes[0], "step.activations",
             "; rank 1: activation final_norm.x, its loss, gradient of head.weight; rank 0: "},
        Case{kMeshes[0], "step.loss", "; rank 1: its loss; rank 0: nothing; "},
        Case{kMeshes[1], "step.gradients", "; ranks 0, 1: gradient of layers.0.attention.q_proj.weight; "}}) {
    SCOPED_TRACE(absl::StrCat(mesh.name, " ", point));
    const std::string name = absl::StrCat("halt-", point);
    const ProgramResult result = Train(name, point + "@1#3=nan", mesh.settings);
    EXPECT_EQ(result.exit_status, 3) << result.out;
    EXPECT_THAT(result.out, HasSubstr("step 3, batch 3: loss "));
    EXPECT_THAT(result.out, HasSubstr(place));
    EXPECT_THAT(result.out, HasSubstr("training diverged"));
    for (const int rank : {0, 1}) EXPECT_THAT(Log(name, rank), HasSubstr(place)) << rank;
    // Checks the state before the step, and the figures that Prometheus finds.
    EXPECT_THAT(result.out, HasSubstr("the newest checkpoint is " + Checkpoint(name, 2)));
    EXPECT_EQ(RunIsthmus("checkpoint verify " + Folder(name)).Count(": sound: step 2,"), 1);
    EXPECT_EQ(LastRecord(name)["step"], 3);
    EXPECT_EQ(LastRecord(name)["stability/non_finite_total"], 1);
    EXPECT_TRUE(LastRecord(name)[point == "step.gradients" ? "train/gradient_norm" : "train/loss"].is_null());
    EXPECT_THAT(ReadText(Folder(name) + "/metrics.prom"), HasSubstr("\nisthmus_stability_non_finite_total 1\n"));
  }
  // After it continues, now with another policy, the steps are taken as they should have been.
  ASSERT_EQ(Train("halt-step.loss", "step.loss@1#1=nan;step.loss@1#5=nan;step.loss@1#7=nan",
                  absl::StrCat(kMeshes[0].settings, " --resume auto ", kSkip))
                .exit_status,
            0);
  ExpectSameRuns("without-tensor", "halt-step.loss");
}

// Some numbers overflow or underflow on the way and leave figures that look sound.
TEST_F(RefusedStep, AGradientThatIsLostOrTooLargeEndsWithStatusThreeAndALayersName) {
  struct Case {
    const char* name;
    const char* faults;
    const char* settings;
    const char* place;
  };
  for (const Case& one : {
           Case{"huge", "", "--set model.init_std=1e8",
                "loss nan, gradient norm nan, not finite; ranks 0, 1: activation layers.1.attention_norm.inverse, its "
                "loss"},
           Case{"huge-narrow", "", "--set model.init_std=1e8 --set precision.compute=BF16",
                "loss nan, gradient norm nan, not finite; ranks 0, 1: activation layers.1.attention_norm.inverse, its "
                "loss"},
           Case{"nothing", "", "--set model.init_std=1e-50",
                "gradient norm 0, all of it lost to overflow or underflow; zero throughout: ranks 0, 1: weight "
                "embedding.weight, activation layers.0.attention.x"},
           Case{"steep", "step.gradients#1=scale:1e30", "--set optimizer.clip_norm=0",
                ", too large to be squared or clipped in fp32; the largest part: ranks 0, 1: gradient of "
                "layers.0.attention.q_proj.weight"},
       }) {
    SCOPED_TRACE(one.name);
    const ProgramResult result = Train(one.name, one.faults, absl::StrCat("--set mesh.data=2 ", one.settings));
    EXPECT_EQ(result.exit_status, 3) << result.out;
    EXPECT_THAT(result.out, HasSubstr("step 1, batch 1: loss "));
    EXPECT_THAT(result.out, HasSubstr(one.place));
    EXPECT_THAT(result.out, HasSubstr("; training diverged"));
    EXPECT_EQ(LastRecord(one.name)["step"], 1);
    EXPECT_EQ(LastRecord(one.name)["stability/non_finite_total"], 1);
  }
}

// No further step checks the weights that the last update made.
TEST_F(RefusedStep, ALastUpdateThatMakesTheModelNotFiniteEndsWithStatusThree) {
  const std::string more =
      "--set mesh.data=2 --set schedule.steps=1 --set schedule.warmup_steps=0 --set optimizer.learning_rate=1e29";
  const ProgramResult result = Train("last", "", more);
  ASSERT_EQ(result.exit_status, 3) << result.out;
  EXPECT_THAT(result.out, HasSubstr(" after step 1, the last: its update has made a model that is not finite"));
  EXPECT_TRUE(LastRecord("last")["validation/loss"].is_null());
  EXPECT_TRUE(std::filesystem::exists(Checkpoint("last", 1)));
  const ProgramResult again = Train("last", "", more + " --resume auto");
  EXPECT_EQ(again.exit_status, 3) << again.out;
}

TEST_F(RefusedStep, SkippingIsTheRunWithoutThoseBatches) {
  for (const TwoRanks& mesh : kMeshes) {
    SCOPED_TRACE(mesh.name);
    const std::string name = absl::StrCat("skip-", mesh.name);
    const ProgramResult result = Train(name, "step.activations@1#3=nan;step.gradients@1#7=nan;step.loss@1#9=nan",
                                       absl::StrCat(kSkip, mesh.settings));
    EXPECT_EQ(result.exit_status, 0) << result.out;
    ExpectSameRuns(absl::StrCat("without-", mesh.name), name);
    EXPECT_EQ(LastRecord(name)["stability/non_finite_total"], 3);
    EXPECT_EQ(LastRecord(name)["stability/skipped_steps_total"], 3);
    EXPECT_EQ(LastRecord(name)["stability/rollbacks_total"], 0);
    for (const char* refused : {"step 3, batch 3: ", "step 6, batch 7: ", "step 7, batch 9: "}) {
      EXPECT_EQ(result.Count(refused), 1) << refused << "\n" << result.out;
      for (const int rank : {0, 1}) EXPECT_THAT(Log(name, rank), HasSubstr(refused)) << rank;
    }
  }
}

TEST_F(RefusedStep, SkippingEndsWithStatusThreeWhenItGoesOn) {
  const ProgramResult result = Train("bounded", "step.loss@1#*=nan",
                                     absl::StrCat(kSkip, kMeshes[1].settings, " --set stability.max_in_a_row=2"));
  EXPECT_EQ(result.exit_status, 3) << result.out;
  EXPECT_EQ(result.Count("the batch is passed over"), 2) << result.out;
  EXPECT_THAT(result.out, HasSubstr("step 1, batch 3: loss nan"));
  EXPECT_THAT(result.out, HasSubstr("it was refused 2 times in a row"));
  EXPECT_THAT(result.out, HasSubstr("let more of them be passed over (stability.max_in_a_row, "));
  EXPECT_THAT(result.out, Not(HasSubstr("policy SKIP")));
}

TEST_F(RefusedStep, SpikesThatEndARunAreCountedOnceThoughItMeetsThemAgain) {
  const std::string more =
      "--set mesh.tensor=2 --set stability.spike.window=4 --set stability.spike.policy=SKIP "
      "--set stability.spike.gradient_norm_threshold=0 --set stability.max_in_a_row=1";
  const ProgramResult result = Train("spikes", "step.loss#6=scale:100;step.loss#7=scale:100", more);
  EXPECT_EQ(result.exit_status, 3) << result.out;
  EXPECT_THAT(result.out, HasSubstr("raise stability.spike.loss_threshold and gradient_norm_threshold, or let more of "
                                    "them be passed over (stability.max_in_a_row, "));
  EXPECT_EQ(LastRecord("spikes")["stability/spikes_total"], 2);
  const ProgramResult again = Train("spikes", "step.loss#1=scale:100", more + " --resume auto");
  EXPECT_EQ(again.exit_status, 3) << again.out;
  EXPECT_THAT(again.out, HasSubstr("step 6, batch 7: "));
  EXPECT_EQ(LastRecord("spikes")["stability/spikes_total"], 2);
}

// Nothing is left of a fault, so the run must equal the one without the batches. A point is passed once for each batch,
// in this order: 1 2 3. The run begins anew with 1 2 4 5 6 7, and goes back to step 4 with 6 8 9. It goes back again
// with 6 8 10 and so on.
TEST_F(RefusedStep, ARollbackGoesOnFromTheLastCheckpointOrTheBeginningWithoutThatBatch) {
  for (const TwoRanks& mesh : kMeshes) {
    SCOPED_TRACE(mesh.name);
    const std::string name = absl::StrCat("back-", mesh.name);
    const ProgramResult result = Train(name, "step.activations@1#3=nan;step.gradients@1#9=inf;step.loss@1#12=nan",
                                       absl::StrCat(kRollback, mesh.settings));
    EXPECT_EQ(result.exit_status, 0) << result.out;
    EXPECT_EQ(result.Count("rolled back to step 0; goes on with batch 1"), 1) << result.out;
    EXPECT_EQ(result.Count("rolled back to step 4; goes on with batch 6"), 2) << result.out;
    ExpectSameRuns(absl::StrCat("without-", mesh.name), name);
    EXPECT_EQ(LastRecord(name)["stability/non_finite_total"], 3);
    EXPECT_EQ(LastRecord(name)["stability/rollbacks_total"], 3);
    EXPECT_EQ(Records(Folder(name))[5]["run/resumed_step"], 4);
    for (const int rank : {0, 1}) EXPECT_THAT(Log(name, rank), HasSubstr("rolled back to step 4")) << rank;
    // Its checkpoints know where in the data it is, and what was counted.
    std::filesystem::remove_all(Checkpoint(name, 12));
    ASSERT_EQ(Train(name, "", absl::StrCat(kRollback, mesh.settings, " --resume auto")).exit_status, 0);
    ExpectSameRuns(absl::StrCat("without-", mesh.name), name);
    EXPECT_EQ(LastRecord(name)["stability/rollbacks_total"], 3);
  }
}

// A rollback reads only the files that it needs.
TEST_F(RefusedStep, ARollbackNeedsNoCheckpointThatIsOlderThanASoundOne) {
  ASSERT_EQ(Train("old", "", kMeshes[0].settings).exit_status, 0);
  std::filesystem::remove_all(Checkpoint("old", 12));
  // Reading it fails with EISDIR, whoever does it.
  MakeUnreadable(Checkpoint("old", 4));
  const ProgramResult result =
      Train("old", "step.loss@1#1=nan", absl::StrCat(kRollback, kMeshes[0].settings, " --resume auto"));
  EXPECT_EQ(result.exit_status, 0) << result.out;
  EXPECT_EQ(result.Count("rolled back to step 8; "), 1) << result.out;
  EXPECT_TRUE(std::filesystem::exists(Checkpoint("old", 12)));
}

TEST_F(RefusedStep, ARollbackThatCannotReadACheckpointKeepsTheState) {
  ASSERT_EQ(Train("kept", "", kMeshes[0].settings).exit_status, 0);
  // The run begins at step 8, to which it can't roll back.
  proto::CheckpointManifest manifest = *ReadManifest(Checkpoint("kept", 8));
  manifest.set_finite(false);
  ASSERT_TRUE(WriteManifest(Checkpoint("kept", 8), manifest).ok());
  MakeUnreadable(Checkpoint("kept", 4));
  const ProgramResult result = Train("kept", "step.loss@1#2=nan",
                                     absl::StrCat(kRollback, kMeshes[0].settings, " --resume ", Checkpoint("kept", 8)));
  EXPECT_EQ(result.exit_status, 2) << result.out;
  EXPECT_THAT(result.out, HasSubstr("; can't roll back: "));
  EXPECT_THAT(result.out, HasSubstr(Checkpoint("kept", 4) + "/manifest.pb: can"));
  EXPECT_THAT(result.out, HasSubstr("so the run ends, and does not go back to an older one: remedy that"));
  EXPECT_THAT(result.out,
              HasSubstr("nothing of the step was applied; the newest checkpoint is " + Checkpoint("kept", 9)));
  EXPECT_THAT(result.out, Not(HasSubstr("nothing was started")));
  EXPECT_EQ(LastRecord("kept")["step"], 10);
  EXPECT_EQ(RunIsthmus("checkpoint verify " + Checkpoint("kept", 9)).Count(": sound: step 9,"), 1);
  const ProgramResult again = Train("kept", "", absl::StrCat(kRollback, kMeshes[0].settings, " --resume auto"));
  EXPECT_EQ(again.exit_status, 0) << again.out;
  EXPECT_EQ(again.Count("continues after step 9"), 1) << again.out;
}

// The fault is on all ranks, as the loss is the same on all of a tensor group. Batch 3 is left out, for the same end.
TEST_F(RefusedStep, SpikesAreSkippedOrRolledBack) {
  // So few steps say little of how gradient norms vary.
  const std::string spike =
      absl::StrCat(kMeshes[0].settings,
                   " --set data.pass_over=3 --set stability.spike.window=5 "
                   "--set stability.spike.gradient_norm_threshold=0 --set stability.spike.policy=");
  for (const bool back : {false, true}) {
    SCOPED_TRACE(back);
    const std::string name = back ? "spike-back" : "spike-skip";
    const ProgramResult result =
        Train(name, absl::StrCat("step.loss#6=scale:100;step.loss#", back ? 9 : 8, "=scale:100"),
              absl::StrCat(spike, back ? "ROLLBACK" : "SKIP"));
    EXPECT_EQ(result.exit_status, 0) << result.out;
    EXPECT_EQ(result.Count("a spike: loss and gradient norm lie "), 2) << result.out;
    EXPECT_EQ(result.Count("rolled back to step 4"), back ? 2 : 0) << result.out;
    ExpectSameRuns("without-tensor", name);
    EXPECT_EQ(LastRecord(name)["stability/spikes_total"], 2);
    EXPECT_EQ(LastRecord(name)["stability/non_finite_total"], 0);
    EXPECT_LT(LastRecord(name)["stability/spike_score"], 50);
  }
}

}  // namespace
}  // namespace isthmus::testing
