// A run that was stopped goes on as if it had not been.
#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "checkpoint/manifest.h"
#include "tests/support/paths.h"
#include "tests/support/program.h"
#include "tests/support/run_folder.h"

namespace isthmus::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class Resume : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    // After a rank has failed mpirun would wait for seconds before it ends the others, which have ended by themselves.
    setenv("OMPI_MCA_odls_base_sigkill_timeout", "0", /*replace=*/1);
    project_ = new TinyProject;
  }
  static void TearDownTestSuite() { delete project_; }
  static TinyProject& project() { return *project_; }

  // Trains, with a checkpoint every five steps, in the project's folder `name`.
  static ProgramResult Train(const std::string& name, int ranks, const std::string& more) {
    return RunIsthmus(absl::StrCat("train --config ", project().WriteConfig(name),
                                   " --set checkpoint.interval=5 --set checkpoint.keep=9 ", more),
                      ranks);
  }
  static std::string Checkpoint(const std::string& name, int step) {
    return absl::StrCat(project() / name, "/checkpoints/step-000000", step < 10 ? "0" : "", step);
  }
  // Makes `to` the folder of `from` as if it had been killed somewhat after step 10.
  static void CopyStopped(const std::string& from, const std::string& to) {
    std::filesystem::copy(project() / from, project() / to,
                          std::filesystem::copy_options::recursive | std::filesystem::copy_options::copy_symlinks);
    std::filesystem::remove_all(Checkpoint(to, 15));
    std::filesystem::remove_all(Checkpoint(to, 20));
    const std::string metrics = project() / to + "/metrics.jsonl";
    const std::string text = ReadText(metrics);
    WriteText(metrics, text.substr(0, text.rfind('{') + 20));  // the last line is half written
  }
  static void ExpectSameFiles(const std::string& a, const std::string& b) {
    int compared = 0;
    for (const auto& entry : std::filesystem::directory_iterator(a)) {
      const std::string name = entry.path().filename().string();
      if (entry.path().extension() != ".tensors") continue;
      EXPECT_TRUE(ReadText(a + "/" + name) == ReadText(b + "/" + name)) << b << "/" << name;
      ++compared;
    }
    EXPECT_GT(compared, 0);
  }
  // Returns everything that a step reports, except times and the texts that name places.
  static std::vector<std::map<std::string, nlohmann::json>> Figures(const std::string& name) {
    std::vector<std::map<std::string, nlohmann::json>> all;
    for (const auto& record : Records(project() / name)) {
      auto& figures = all.emplace_back();
      for (const auto& [key, value] : record.items()) {
        if (key == "step" || key == "tokens" || key == "train/loss" || key == "train/gradient_norm" ||
            key == "train/learning_rate" || key == "validation/loss" || key.rfind("head/", 0) == 0 ||
            key.rfind("token_gaps/", 0) == 0) {
          figures[key] = value;
        }
      }
    }
    return all;
  }

 private:
  static TinyProject* project_;
};
TinyProject* Resume::project_ = nullptr;

TEST_F(Resume, AtTheSameMeshTheRunIsBitForBitTheUninterruptedOne) {
  int number = 0;
  for (const char* more : {"--set mesh.tensor=2", "--set mesh.data=2 --set mesh.shard_optimizer=true",
                           "--set mesh.data=2 --set precision.compute=BF16 --set telemetry.interval=3"}) {
    SCOPED_TRACE(more);
    const std::string whole = absl::StrCat("whole", number), parts = absl::StrCat("parts", number++);
    ProgramResult result = Train(whole, 2, more);
    ASSERT_EQ(result.exit_status, 0) << result.out;
    CopyStopped(whole, parts);
    result = Train(parts, 2, absl::StrCat(more, " --resume auto"));
    ASSERT_EQ(result.exit_status, 0) << result.out;
    EXPECT_EQ(result.Count("continues after step 10"), 1) << result.out;
    const auto expected = Figures(whole), found = Figures(parts);
    ASSERT_EQ(found.size(), 21u);
    for (size_t i = 0; i < found.size(); ++i) EXPECT_EQ(found[i], expected[i]) << "record " << i;
    ExpectSameFiles(Checkpoint(whole, 20), Checkpoint(parts, 20));
    // The step from which it continued is part of the first record that it made itself.
    const auto records = Records(project() / parts);
    EXPECT_EQ(records[11]["run/resumed_step"], 10);
    EXPECT_FALSE(records[10].contains("run/resumed_step"));
    EXPECT_EQ(records[20]["checkpoint/step"], 20);  // of the last step there is no later record
    EXPECT_GT(records[11]["elapsed_seconds"], records[10]["elapsed_seconds"]);
  }
}

TEST_F(Resume, AtAnotherMeshItIsWithinRounding) {
  const std::string fp64 = "--set precision.compute=FP64 ";
  ASSERT_EQ(Train("mesh", 2, fp64 + "--set mesh.tensor=2").exit_status, 0);
  const auto expected = Losses(project() / "mesh");
  struct Other {
    const char* name;
    int ranks;
    const char* more;
  };
  for (const Other& other :
       {Other{"mesh1", 0, ""}, Other{"mesh2", 2, "--set mesh.data=2 --set mesh.shard_optimizer=true"},
        Other{"mesh3", 4, "--set mesh.tensor=4"}}) {
    SCOPED_TRACE(other.name);
    CopyStopped("mesh", other.name);
    const ProgramResult result = Train(other.name, other.ranks, absl::StrCat(fp64, other.more, " --resume auto"));
    ASSERT_EQ(result.exit_status, 0) << result.out;
    const auto found = Losses(project() / other.name);
    ASSERT_EQ(found.size(), expected.size());
    for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i] / expected[i], 1, 1e-10) << "step " << i + 1;
  }
}

// A scheduler does it like this, here to one rank alone. All save, say so by the exit status, and go on when started
// again.
TEST_F(Resume, ASignalEndsTheRunWithACheckpointAndStatusFive) {
  const std::string more =
      "--set mesh.tensor=2 --set schedule.steps=600 --set telemetry.validation_interval=0 "
      "--set checkpoint.interval=0 ";
  ASSERT_EQ(Train("unstopped", 2, more).exit_status, 0);
  const std::string config = project().WriteConfig("stopped");
  const std::string start = absl::StrCat("OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1 ",
                                         LauncherPath(), " --oversubscribe --bind-to none -n 2 ", ProgramPath(),
                                         " train --config ", config, " --resume auto ", more);
  int64_t seen = 0;
  for (const char* signal : {"TERM", "USR1", "INT"}) {
    const ProgramResult stopped = RunShell(absl::StrCat(
        start, " & launcher=$!; until [ $(cat ", project() / "stopped", "/metrics.jsonl 2>/dev/null | wc -l) -gt ",
        seen + 40, " ]; do sleep 0.01; done; kill -", signal, " $(pgrep -P $launcher | tail -1); wait $launcher"));
    ASSERT_EQ(stopped.exit_status, 5) << stopped.out;
    EXPECT_EQ(stopped.Count(absl::StrCat("stopped by SIG", signal, " after step ")), 1) << stopped.out;
    seen = static_cast<int64_t>(Records(project() / "stopped").size());
    ASSERT_LT(seen, 600);
    const ProgramResult verified = RunIsthmus("checkpoint verify " + (project() / "stopped"));
    EXPECT_EQ(verified.Count(absl::StrCat(": sound: step ", seen - 1, ",")), 1) << verified.out;
  }
  ASSERT_EQ(Train("stopped", 2, more + "--resume auto").exit_status, 0);
  EXPECT_EQ(Losses(project() / "stopped"), Losses(project() / "unstopped"));
  ExpectSameFiles(project() / "unstopped/checkpoints/step-00000600", project() / "stopped/checkpoints/step-00000600");
}

TEST_F(Resume, ADamagedCheckpointIsPassedOverAndSetAside) {
  ASSERT_EQ(Train("sound", 2, "--set mesh.tensor=2").exit_status, 0);
  CopyStopped("sound", "damaged");
  const std::string data = Checkpoint("damaged", 10) + "/rank-0001.tensors";
  std::string bytes = ReadText(data);
  bytes[bytes.size() / 2] ^= 1;
  WriteText(data, bytes);
  const ProgramResult result = Train("damaged", 2, "--set mesh.tensor=2 --resume auto");
  ASSERT_EQ(result.exit_status, 0) << result.out;
  EXPECT_EQ(result.Count("continues after step 5"), 1) << result.out;
  EXPECT_THAT(ReadText(project() / "damaged/log/rank-0000.log"), HasSubstr(data + ": tensor "));
  EXPECT_TRUE(std::filesystem::exists(Checkpoint("damaged", 10) + ".set-aside"));
  EXPECT_EQ(Losses(project() / "damaged"), Losses(project() / "sound"));
  ExpectSameFiles(Checkpoint("sound", 20), Checkpoint("damaged", 20));
}

// No older one is taken when the system refuses to read the newest: steps would be lost.
TEST_F(Resume, ACheckpointThatCannotBeReadNowIsNoDamagedOne) {
  ASSERT_EQ(Train("unread", 0, "--set schedule.steps=10").exit_status, 0);
  const std::string manifest = Checkpoint("unread", 10) + "/manifest.pb", kept = manifest + ".kept";
  std::filesystem::rename(manifest, kept);
  // Reading it fails with EISDIR, whoever does it.
  std::filesystem::create_directory(manifest);
  const ProgramResult result = Train("unread", 0, "--resume auto");
  EXPECT_EQ(result.exit_status, 2) << result.out;
  EXPECT_EQ(result.Count("the checkpoint may be sound all the same, so nothing was started or changed"), 1)
      << result.out;
  std::filesystem::remove(manifest);
  std::filesystem::rename(kept, manifest);
  // An unmounted disk does not mean that there is nothing to continue, either.
  std::filesystem::rename(project() / "unread/checkpoints", project() / "unmounted");
  std::filesystem::create_directory_symlink(project() / "nowhere", project() / "unread/checkpoints");
  const ProgramResult gone = Train("unread", 0, "--resume auto");
  EXPECT_EQ(gone.exit_status, 2) << gone.out;
  EXPECT_EQ(gone.Count("unread/checkpoints: can't list the checkpoints"), 1) << gone.out;
  EXPECT_FALSE(std::filesystem::exists(project() / "unread/metrics.jsonl.1"));
  std::filesystem::remove(project() / "unread/checkpoints");
  std::filesystem::rename(project() / "unmounted", project() / "unread/checkpoints");
  const ProgramResult again = Train("unread", 0, "--resume auto");
  EXPECT_EQ(again.exit_status, 0) << again.out;
  EXPECT_EQ(again.Count("continues after step 10"), 1) << again.out;
}

// A copy may have followed the link `latest`. Whatever has that name, the disk must not fill up.
TEST_F(Resume, RotationDoesNotDependOnLatest) {
  ASSERT_EQ(Train("first", 0, "--set schedule.steps=10").exit_status, 0);
  std::filesystem::copy(project() / "first", project() / "copied", std::filesystem::copy_options::recursive);
  const std::string latest = project() / "copied/checkpoints/latest";
  ASSERT_EQ(std::filesystem::symlink_status(latest).type(), std::filesystem::file_type::directory);
  // A start that was killed while it saved has left this folder.
  std::filesystem::create_directory(Checkpoint("copied", 11) + ".tmp");
  const ProgramResult result = Train("copied", 0, "--resume auto --set checkpoint.keep=1");
  ASSERT_EQ(result.exit_status, 0) << result.out;
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(project() / "copied/checkpoints")) {
    names.insert(entry.path().filename().string());
  }
  EXPECT_THAT(names, ElementsAre("latest", "latest.set-aside", "step-00000020"));
  EXPECT_EQ(std::filesystem::read_symlink(latest), "step-00000020");
  const std::string log = ReadText(project() / "copied/log/rank-0000.log");
  EXPECT_THAT(log, HasSubstr(latest + " is a folder, not a link: it is " + latest + ".set-aside now"));
}

// A checkpoint of a later program is not damaged. A checkpoint with a right checksum may still state an impossible
// position.
TEST_F(Resume, ANewerFormatEndsTheStartAndAnImpossiblePositionDoesNot) {
  ASSERT_EQ(Train("newer", 0, "--set schedule.steps=10").exit_status, 0);
  const std::string newest = Checkpoint("newer", 10);
  proto::CheckpointManifest manifest = *ReadManifest(newest);
  const int version = manifest.version();
  manifest.set_version(version + 1);
  ASSERT_TRUE(WriteManifest(newest, manifest).ok());
  const ProgramResult newer = Train("newer", 0, "--resume auto");
  EXPECT_EQ(newer.exit_status, 2) << newer.out;
  EXPECT_EQ(newer.Count("newer than this program, which reads versions 1 to 2"), 1) << newer.out;
  EXPECT_TRUE(std::filesystem::exists(newest));
  manifest.set_version(version);
  manifest.set_samples(8 * 9);
  ASSERT_TRUE(WriteManifest(newest, manifest).ok());
  const ProgramResult passed = Train("newer", 0, "--resume auto --set schedule.steps=10");
  EXPECT_EQ(passed.exit_status, 0) << passed.out;
  EXPECT_EQ(passed.Count("continues after step 5"), 1) << passed.out;
  EXPECT_THAT(ReadText(project() / "newer/log/rank-0000.log"), HasSubstr("samples: 72; accepted: a multiple of"));
}

TEST_F(Resume, WhenNoCheckpointIsSoundNothingStartsAndEachIsNamed) {
  ASSERT_EQ(Train("bad", 2, "--set mesh.data=2 --set schedule.steps=10").exit_status, 0);
  WriteText(Checkpoint("bad", 10) + "/manifest.pb", "nonsense that is long enough");
  std::filesystem::remove(Checkpoint("bad", 5) + "/rank-0000.tensors");
  const std::string metrics = ReadText(project() / "bad/metrics.jsonl");
  const ProgramResult result = Train("bad", 2, "--set mesh.data=2 --resume auto");
  EXPECT_EQ(result.exit_status, 2) << result.out;
  EXPECT_EQ(result.Count("none is sound"), 1) << result.out;
  EXPECT_THAT(result.out, HasSubstr(Checkpoint("bad", 10) + "/manifest.pb: is not the manifest"));
  EXPECT_THAT(result.out, HasSubstr(Checkpoint("bad", 5) + "/rank-0000.tensors: can"));
  EXPECT_EQ(ReadText(project() / "bad/metrics.jsonl"), metrics);
  EXPECT_TRUE(std::filesystem::exists(Checkpoint("bad", 10)));
}

// It was read, and checked, when the run began.
TEST_F(Resume, ARunNeedsItsTokenizerNoMore) {
  const std::string tokenizer = project() / "short-lived.model", bytes = ReadText(project() / "tokenizer.model");
  WriteText(tokenizer, bytes);
  const ProgramResult result = RunShell(absl::StrCat(
      "OMP_NUM_THREADS=1 ", ProgramPath(), " train --config ", project().WriteConfig("tokenizer"),
      " --set data.tokenizer=", tokenizer,
      " --set schedule.steps=200 --set telemetry.validation_interval=0 & until [ -s ", project() / "tokenizer",
      "/metrics.jsonl ]; do sleep 0.01; done; echo other > ", tokenizer, "; wait $!"));
  ASSERT_EQ(result.exit_status, 0) << result.out;
  EXPECT_EQ(ReadText(project() / "tokenizer/checkpoints/step-00000200/tokenizer.model"), bytes);
}

TEST_F(Resume, WithoutACheckpointTheRunBegins) {
  ASSERT_EQ(Train("begun", 2, "--resume auto --set schedule.steps=4 --set checkpoint.save_final=false").exit_status, 0);
  const std::string earlier = ReadText(project() / "begun/metrics.jsonl");
  // The run is as if it had been killed before its first checkpoint. No other run takes its folder.
  const ProgramResult other = Train("begun", 2, "--resume auto --set model.width=64");
  EXPECT_EQ(other.exit_status, 2) << other.out;
  EXPECT_EQ(other.Count("holds the records of another run (model.width: 32 -> 64"), 1) << other.out;
  EXPECT_EQ(ReadText(project() / "begun/metrics.jsonl"), earlier);
  const ProgramResult again = Train("begun", 2, "--resume auto --set schedule.steps=5");
  ASSERT_EQ(again.exit_status, 0) << again.out;
  EXPECT_EQ(again.Count("begins anew; the records of 4 steps are in metrics.jsonl.1\n"), 1) << again.out;
  EXPECT_EQ(Records(project() / "begun").size(), 6u);
  EXPECT_EQ(ReadText(project() / "begun/metrics.jsonl.1"), earlier);
  // With nothing left to do it does nothing.
  const std::string metrics = ReadText(project() / "begun/metrics.jsonl"),
                    figures = ReadText(project() / "begun/metrics.prom");
  const auto event_files = [&] {
    int count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(project() / "begun")) {
      count += entry.path().filename().string().starts_with("events.") ? 1 : 0;
    }
    return count;
  };
  const int events = event_files();
  const ProgramResult done = Train("begun", 2, "--resume auto --set schedule.steps=5");
  ASSERT_EQ(done.exit_status, 0) << done.out;
  EXPECT_EQ(done.Count("nothing left to train"), 1) << done.out;
  EXPECT_EQ(ReadText(project() / "begun/metrics.jsonl"), metrics);
  EXPECT_EQ(ReadText(project() / "begun/metrics.prom"), figures);
  EXPECT_EQ(event_files(), events);
  EXPECT_THAT(ReadText(project() / "begun/log/rank-0000.log"), Not(HasSubstr("loss 0.000000")));
  EXPECT_EQ(Train("begun", 2, "--resume never").Count("already holds a run"), 1);
  // Checkpoints alone are a run, too.
  std::filesystem::remove(project() / "begun/metrics.jsonl");
  EXPECT_EQ(Train("begun", 0, "--resume never").Count("step-00000005: the folder already holds a run"), 1);
  EXPECT_FALSE(std::filesystem::exists(project() / "begun/metrics.jsonl"));
}

// Nobody has chosen to read it. Whoever writes to it would wait for its reader.
TEST_F(Resume, APipeInTheConfigurationsPlaceIsNotRead) {
  ASSERT_EQ(Train("piped", 0, "--set schedule.steps=3 --set checkpoint.save_final=false").exit_status, 0);
  const std::string pipe = project() / "piped/config.textproto";
  std::filesystem::remove(pipe);
  const std::string other = project().WriteConfig("other", "seed: 77\n");
  const ProgramResult result = RunShell(absl::StrCat(
      "mkfifo ", pipe, "; cat ", other, " >", pipe, " & ", "OMP_NUM_THREADS=1 ", ProgramPath(), " train --config ",
      project().WriteConfig("piped"), " --resume auto; status=$?; kill $!; exit $status"));
  EXPECT_EQ(result.exit_status, 2) << result.out;
  EXPECT_EQ(result.Count("config.textproto: is a pipe that nobody reads"), 1) << result.out;
  EXPECT_EQ(result.Count("another run"), 0) << result.out;
}

TEST_F(Resume, AStartThatFailedBeforeItsFirstStepDoesNotStandInTheWay) {
  const ProgramResult failed = Train("early", 0, "--set model.width=4194304 --set model.feed_forward=4194304");
  ASSERT_EQ(failed.exit_status, 2) << failed.out;
  ASSERT_TRUE(std::filesystem::exists(project() / "early/metrics.jsonl"));
  const ProgramResult corrected = Train("early", 0, "--set schedule.steps=4 --set checkpoint.save_final=false");
  EXPECT_EQ(corrected.exit_status, 0) << corrected.out;
  EXPECT_EQ(Records(project() / "early").size(), 5u);
  EXPECT_EQ(Train("early", 0, "").Count("already holds a run"), 1);
  // It was stopped after its first record.
  const std::string first = nlohmann::json({{"step", 0}}).dump() + "\n";
  WriteText(project() / "early/metrics.jsonl", first);
  EXPECT_EQ(Train("early", 0, "--set schedule.steps=4 --set checkpoint.save_final=false").exit_status, 0);
  WriteText(project() / "early/metrics.jsonl", first + "{\"step\":1,\"tr");
  EXPECT_EQ(Train("early", 0, "").Count("already holds a run"), 1);
}

TEST_F(Resume, AnyCheckpointCanBeTheStartOfAnotherRun) {
  ASSERT_EQ(Train("origin", 0, "").exit_status, 0);
  const ProgramResult branch = Train("branch", 2, "--resume " + Checkpoint("origin", 10));
  ASSERT_EQ(branch.exit_status, 0) << branch.out;
  const auto records = Records(project() / "branch");
  ASSERT_EQ(records.size(), 10u);
  EXPECT_EQ(records[0]["step"], 11);
  EXPECT_NEAR(records[9]["train/loss"].get<double>() / Losses(project() / "origin").back(), 1, 1e-4);
  // In its own folder the run goes back, and everything later is set aside.
  const auto expected = Losses(project() / "origin");
  ASSERT_EQ(Train("origin", 0, "--resume " + Checkpoint("origin", 5)).exit_status, 0);
  EXPECT_EQ(Losses(project() / "origin"), expected);
  EXPECT_TRUE(std::filesystem::exists(Checkpoint("origin", 15) + ".set-aside"));
  EXPECT_TRUE(std::filesystem::exists(Checkpoint("origin", 15)));
  EXPECT_EQ(Train("branch", 2, "--resume " + Checkpoint("origin", 10)).Count("already holds a run"), 1);
}

// The checkpoint that a run goes on from must be there for the next start, whatever it was named.
TEST_F(Resume, ACheckpointThatWasSetAsideGetsItsNameBack) {
  const std::string mesh = "--set mesh.tensor=2 ", run = project() / "named";
  ASSERT_EQ(Train("named", 2, mesh).exit_status, 0);
  for (const int step : {5, 10}) std::filesystem::remove_all(Checkpoint("named", step));
  for (const int step : {15, 20}) {
    std::filesystem::rename(Checkpoint("named", step), Checkpoint("named", step) + ".set-aside");
  }
  const std::string metrics = ReadText(run + "/metrics.jsonl");
  const ProgramResult none = Train("named", 2, mesh + "--resume auto");
  EXPECT_EQ(none.exit_status, 2) << none.out;
  EXPECT_EQ(none.Count(absl::StrCat(run, "/checkpoints: holds no checkpoint step-…, but step-00000015.set-aside, ",
                                    "step-00000020.set-aside, set aside by earlier starts; go on from one with "
                                    "--resume ",
                                    Checkpoint("named", 15), ".set-aside, or move them elsewhere to begin anew")),
            1)
      << none.out;
  EXPECT_EQ(ReadText(run + "/metrics.jsonl"), metrics);
  // This run ends before it saves anything.
  const ProgramResult named =
      Train("named", 2,
            absl::StrCat(mesh, "--set schedule.steps=17 --set checkpoint.interval=0 --set ",
                         "checkpoint.save_final=false --resume ", Checkpoint("named", 15), ".set-aside"));
  ASSERT_EQ(named.exit_status, 0) << named.out;
  EXPECT_TRUE(std::filesystem::exists(Checkpoint("named", 15)));
  EXPECT_FALSE(std::filesystem::exists(Checkpoint("named", 15) + ".set-aside"));
  EXPECT_EQ(std::filesystem::read_symlink(run + "/checkpoints/latest"), "step-00000015");
  const ProgramResult again = Train("named", 2, mesh + "--resume auto");
  EXPECT_EQ(again.exit_status, 0) << again.out;
  EXPECT_EQ(again.Count("continues after step 15"), 1) << again.out;
  ExpectSameFiles(Checkpoint("named", 20), Checkpoint("named", 20) + ".set-aside");
  // A run that has gone back to its beginning sets aside what is not finite. It needs nobody to start it again.
  for (const std::string& name :
       {Checkpoint("named", 15), Checkpoint("named", 20), Checkpoint("named", 20) + ".set-aside"}) {
    proto::CheckpointManifest manifest = *ReadManifest(name);
    manifest.set_finite(false);
    ASSERT_TRUE(WriteManifest(name, manifest).ok());
    if (!name.ends_with("aside")) std::filesystem::rename(name, name + ".set-aside-2");
  }
  const ProgramResult anew = Train("named", 0, "--set schedule.steps=2 --resume auto");
  EXPECT_EQ(anew.exit_status, 0) << anew.out;
  EXPECT_EQ(anew.Count("begins anew"), 1) << anew.out;
}

TEST_F(Resume, AnotherModelOrOtherDataAreRefusedWithWhatDiffers) {
  ASSERT_EQ(Train("same", 2, "--set schedule.steps=5").exit_status, 0);
  const auto refused = [&](const std::string& more, const std::string& message) {
    const ProgramResult result = Train("same", 2, "--resume auto " + more);
    EXPECT_EQ(result.exit_status, 2) << result.out;
    EXPECT_EQ(result.Count(message), 1) << message << "\n" << result.out;
  };
  refused("--set model.width=64", "model.width: 32 -> 64");
  refused("--set seed=9", "seed: 1234 -> 9");
  refused("--set precision.compute=BF16", "precision.compute: FP32 -> BF16");
  refused("--set batch.sequences=16", "batch.sequences: 8 -> 16");
  refused(absl::StrCat("--set data.train=", project() / "tokens/validation"), "training samples, it had");
  // The shards are the same by other names, in another order.
  const std::string shards = project() / "shards", data = " --set data.train=" + shards;
  std::filesystem::create_directories(shards);
  std::filesystem::copy(project() / "tokens/train/00000.ids", shards + "/a.ids");
  std::filesystem::copy(project() / "tokens/validation/00000.ids", shards + "/b.ids");
  ASSERT_EQ(Train("ordered", 0, "--set schedule.steps=5" + data).exit_status, 0);
  std::filesystem::rename(shards + "/a.ids", shards + "/c.ids");
  const ProgramResult swapped = Train("ordered", 0, "--resume auto" + data);
  EXPECT_EQ(swapped.exit_status, 2) << swapped.out;
  EXPECT_EQ(swapped.Count("the token shards are others, or in another order"), 1) << swapped.out;
  std::filesystem::rename(shards + "/c.ids", shards + "/0.ids");
  EXPECT_EQ(Train("ordered", 0, "--resume auto --set schedule.steps=6" + data).exit_status, 0);
  EXPECT_EQ(Train("same", 2, "--resume /nowhere/run").Count("/nowhere/run: can"), 1);
  // Other settings may change on the way; the log tells.
  ASSERT_EQ(Train("same", 2, "--resume auto --set schedule.steps=8 --set optimizer.weight_decay=0").exit_status, 0);
  EXPECT_THAT(ReadText(project() / "same/log/rank-0000.log"), HasSubstr("optimizer.weight_decay: 0.1 -> 0"));
  // The head's rank has an older name.
  ASSERT_EQ(Train("ranked", 0, "--set schedule.steps=5 --set model.head_rank=8").exit_status, 0);
  EXPECT_EQ(Train("ranked", 0, "--resume auto --set schedule.steps=6 --set model.head.rank=8").exit_status, 0);
}

TEST_F(Resume, CurvesOfTensorBoardDoNotOverlap) {
  ASSERT_EQ(Train("curves", 0, "").exit_status, 0);
  // There is another file of events, whose start makes void what the first has from step 6 on.
  ASSERT_EQ(Train("curves", 0, "--resume " + Checkpoint("curves", 5)).exit_status, 0);
  const ProgramResult read =
      RunShell(SourceFolder() + "/tests/support/read_tensorboard " + (project() / "curves") + " 2>/dev/null");
  if (read.exit_status == 77) GTEST_SKIP() << read.out;
  ASSERT_EQ(read.exit_status, 0) << read.out;
  const auto losses = nlohmann::json::parse(read.out)["scalars"]["train/loss"];
  ASSERT_EQ(losses.size(), 20u);
  for (size_t i = 0; i < losses.size(); ++i) EXPECT_EQ(losses[i][0], i + 1);
}

// The disk of this test is a small file system of its own; to mount one takes root.
TEST_F(Resume, AFullDiskCostsACheckpointAndNotTheRun) {
  ASSERT_EQ(Train("size", 2, "--set schedule.steps=5").exit_status, 0);
  uintmax_t bytes = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(project() / "size")) {
    if (entry.is_regular_file()) bytes += entry.file_size();
  }
  const std::string disk = project() / "disk", run = disk + "/run";
  std::filesystem::create_directories(disk);
  // One checkpoint fits, with some room for metrics.
  const std::string size = absl::StrCat("size=", bytes + bytes / 2);
  if (geteuid() != 0 || mount("isthmus-test", disk.c_str(), "tmpfs", 0, size.c_str()) != 0) {
    GTEST_SKIP() << "needs root and the right to mount a small tmpfs";
  }
  const ProgramResult result =
      Train("full", 2, absl::StrCat("--set folder=", run, " --set checkpoint.save_final=false"));
  EXPECT_EQ(result.exit_status, 0) << result.out;
  EXPECT_GE(result.Count("a checkpoint could not be saved"), 1) << result.out;
  // Records that come just when the disk is full are lost.
  std::map<int, nlohmann::json> records;
  for (const auto& record : Records(run)) records[record["step"]] = record;
  std::set<int> saved, failed;
  for (const auto& [step, record] : records) {
    if (record.contains("checkpoint/step")) saved.insert(record["checkpoint/step"].get<int>());
    if (record.contains("checkpoint/failed_total")) failed.insert(record["checkpoint/failed_total"].get<int>());
  }
  EXPECT_THAT(saved, ElementsAre(5));
  // Two that fail between two records are told together.
  ASSERT_FALSE(failed.empty());
  EXPECT_EQ(*failed.rbegin(), 2);
  EXPECT_EQ(records.rbegin()->first, 20);
  EXPECT_THAT(ReadText(run + "/log/rank-0000.log"), HasSubstr("no checkpoint of step 10: "));
  EXPECT_THAT(ReadText(run + "/log/rank-0000.log"), HasSubstr("No space left on device"));
  EXPECT_FALSE(std::filesystem::exists(run + "/checkpoints/step-00000010.tmp"));
  const ProgramResult verified = RunIsthmus("checkpoint verify " + run);
  EXPECT_EQ(verified.exit_status, 0) << verified.out;
  EXPECT_EQ(verified.Count("sound: step 5"), 1) << verified.out;
  umount2(disk.c_str(), MNT_DETACH);
}

TEST_F(Resume, VerifyAndShowTellWhatACheckpointHolds) {
  ASSERT_EQ(Train("shown", 2, "--set mesh.tensor=2 --set schedule.steps=10").exit_status, 0);
  const ProgramResult sound = RunIsthmus("checkpoint verify " + (project() / "shown"));
  EXPECT_EQ(sound.exit_status, 0) << sound.out;
  EXPECT_EQ(sound.Count(": sound: step "), 2) << sound.out;
  const ProgramResult shown = RunIsthmus("checkpoint show " + (project() / "shown"));
  EXPECT_EQ(shown.exit_status, 0) << shown.out;
  EXPECT_EQ(shown.Count("step 10, 2560 tokens"), 1) << shown.out;
  EXPECT_EQ(shown.Count("layers.1.attention.q_proj.weight (second moment)"), 1) << shown.out;
  const ProgramResult compared =
      RunIsthmus(absl::StrCat("checkpoint show ", Checkpoint("shown", 5), " ", Checkpoint("shown", 10)));
  EXPECT_EQ(compared.exit_status, 0) << compared.out;
  EXPECT_EQ(compared.Count("0 tensors are equal"), 1) << compared.out;
  const ProgramResult same =
      RunIsthmus(absl::StrCat("checkpoint show ", Checkpoint("shown", 10), " ", project() / "shown"));
  EXPECT_EQ(same.Count("elements differ"), 0) << same.out;

  const std::string data = Checkpoint("shown", 5) + "/rank-0001.tensors";
  std::string bytes = ReadText(data);
  bytes[100] ^= 1;
  WriteText(data, bytes);
  const ProgramResult damaged = RunIsthmus("checkpoint verify " + (project() / "shown"));
  EXPECT_EQ(damaged.exit_status, 2) << damaged.out;
  EXPECT_EQ(damaged.Count(data + ": tensor embedding.weight at byte 0: the checksum is wrong"), 1) << damaged.out;
  EXPECT_EQ(damaged.Count(": sound: step 10"), 1) << damaged.out;
  EXPECT_EQ(RunIsthmus("checkpoint verify /nowhere").exit_status, 2);
  EXPECT_EQ(RunIsthmus("checkpoint fly").Count("accepts verify or show"), 1);
}

}  // namespace
}  // namespace isthmus::testing
