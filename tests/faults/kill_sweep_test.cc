// kill -9 hits one rank at any fault point. The next start continues from a complete checkpoint, the newest that there
// was. The run ends with the weights and losses of an undisturbed one, bit for bit.
//
// A chain is one run: started, killed, continued, killed again, until a start comes to its end. The point, the rank and
// the pass are drawn at random; first every pair of a point and a rank comes once.
//
// The test kills a few times at each mesh. More kills take 1.5 s each:
//   ISTHMUS_KILLS=80 ISTHMUS_KILL_SEED=3 build/cuda/tests/faults_tests --gtest_filter='KillSweep.*'
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_split.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <map>
#include <random>
#include <set>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "checkpoint/manifest.h"
#include "checkpoint/verify.h"
#include "tests/support/program.h"
#include "tests/support/run_folder.h"

namespace isthmus::testing {
namespace {

using ::testing::IsEmpty;

constexpr int kSteps = 8;

int64_t Variable(const char* name, int64_t otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : std::atoll(value);
}

// A point of one rank.
using Place = std::pair<std::string, int>;
using Passes = std::map<Place, int64_t>;

int64_t NewestStep(const std::string& run) {
  const auto stored = *ListCheckpoints(run);
  return stored.empty() ? 0 : stored.front().step;
}

class Chain {
 public:
  Chain(const TinyProject& project, int tensor, int data, uint64_t seed)
      : project_(project), ranks_(tensor * data), random_(seed) {
    mesh_ = absl::StrFormat("--set mesh.tensor=%d --set mesh.data=%d --set mesh.shard_optimizer=%s", tensor, data,
                            data > 1 ? "true" : "false");
    whole_ = project / absl::StrCat("whole-", tensor, "x", data);
    run_ = project / absl::StrCat("chain-", tensor, "x", data);
    config_ = project.WriteConfig("chain");
  }

  // Makes the undisturbed run, with saves in the background. The kills hit its points.
  void RunWhole() {
    const ProgramResult result = Start(whole_, true, "");
    ASSERT_EQ(result.exit_status, 0) << result.out;
    ASSERT_EQ(NewestStep(whole_), kSteps);
    Learn();
  }

  // Kills for `kills` times, at the places `first` before all others. Returns where.
  std::vector<std::string> Kill(int64_t kills, std::vector<Place> first) {
    std::vector<std::string> done;
    waiting_.assign(first.begin(), first.end());
    for (const Place& place : first) known_.insert(place);
    while (static_cast<int64_t>(done.size()) < kills && !::testing::Test::HasFailure()) {
      const Place place = Draw();
      const int64_t left = kSteps - NewestStep(run_);
      const int64_t most = std::max<int64_t>(passes_[place] * left / kSteps, 1);
      const int64_t pass = std::uniform_int_distribution<int64_t>(1, most)(random_);
      const bool background = random_() % 2 == 0;
      const std::string fault = absl::StrCat(place.first, "@", place.second, "#", pass, "=kill");
      SCOPED_TRACE(absl::StrCat(fault, background ? ", background" : "", ", after ", done.size(), " kills"));
      if (StartAndCheck(background, fault)) {
        done.push_back(fault);
        absl::PrintF("%s: killed at %s\n", whole_.substr(whole_.rfind('-') + 1), fault);
        std::fflush(stdout);
      } else {
        Finish();
        // The rest of the run did not pass the point as often.
        if (++missed_[place] < 3) waiting_.push_back(place);
      }
    }
    if (!::testing::Test::HasFailure() && std::filesystem::exists(run_)) {
      EXPECT_FALSE(StartAndCheck(true, ""));
      Finish();
    }
    return done;
  }

 private:
  ProgramResult Start(const std::string& run, bool background, const std::string& fault) {
    log_ = absl::StrCat(whole_, "-points-", ++starts_);
    return RunWithFaults(
        fault,
        absl::StrCat("train --resume auto --config ", config_, " --set folder=", run, " ", mesh_,
                     " --set schedule.steps=", kSteps, " --set checkpoint.interval=2 --set checkpoint.keep=1",
                     " --set checkpoint.background=", background ? "true" : "false",
                     " --set telemetry.interval=4 --set telemetry.validation_interval=4"),
        ranks_, kPatience, log_);
  }

  // Returns which points were passed by the last start, and how often.
  Passes Passed() const {
    Passes passed;
    for (int rank = 0; rank < ranks_; ++rank) {
      for (const auto point : absl::StrSplit(ReadText(absl::StrCat(log_, ".", rank)), '\n', absl::SkipEmpty())) {
        ++passed[{std::string(point), rank}];
      }
    }
    return passed;
  }

  // Points that are new wait for their turn.
  void Learn() {
    std::vector<Place> fresh;
    for (const auto& [place, count] : Passed()) {
      passes_[place] = std::max(passes_[place], count);
      if (known_.insert(place).second) fresh.push_back(place);
    }
    std::shuffle(fresh.begin(), fresh.end(), random_);
    waiting_.insert(waiting_.end(), fresh.begin(), fresh.end());
  }

  Place Draw() {
    if (!waiting_.empty()) {
      const Place place = waiting_.front();
      waiting_.pop_front();
      return place;
    }
    auto place = passes_.begin();
    std::advance(place, std::uniform_int_distribution<size_t>(0, passes_.size() - 1)(random_));
    return place->first;
  }

  // Makes one start of the chain. Returns whether it was killed; otherwise it came to its end.
  bool StartAndCheck(bool background, const std::string& fault) {
    const int64_t before = NewestStep(run_);
    const std::string log = run_ + "/log/rank-0000.log";
    const std::string said = ReadText(log);
    const ProgramResult result = Start(run_, background, fault);
    Learn();
    const Passes passed = Passed();
    const auto steps = passed.find({"step.begin", 0});
    const int64_t begun = steps == passed.end() ? 0 : steps->second;
    const int64_t newest = NewestStep(run_);
    EXPECT_GE(newest, before) << "a checkpoint was lost";
    const auto stored = *ListCheckpoints(run_);
    for (const StoredCheckpoint& one : stored) {
      EXPECT_THAT(VerifyCheckpoint(one.folder).problems, IsEmpty());
    }
    const std::string latest = run_ + "/checkpoints/latest";
    if (std::filesystem::is_symlink(latest)) {
      EXPECT_THAT(VerifyCheckpoint(latest).problems, IsEmpty());
    }
    // To continue from a checkpoint older than the newest would set that aside.
    std::error_code none;
    for (const auto& entry : std::filesystem::directory_iterator(run_ + "/checkpoints", none)) {
      EXPECT_EQ(entry.path().string().find("set-aside"), std::string::npos) << entry.path();
    }
    if (begun > 0) {
      const std::string news = ReadText(log).substr(said.size());
      const std::string line = absl::StrCat("continued after step ", before, "\n");
      EXPECT_EQ(news.find(line) != std::string::npos, before > 0) << "expected: " << line << news;
    }
    if (result.exit_status == 0) {
      EXPECT_EQ(begun, kSteps - before);
      EXPECT_EQ(newest, kSteps);
      return false;
    }
    if (newest == kSteps) {
      EXPECT_EQ(begun, kSteps - before);
    }
    EXPECT_NE(result.out.find("signal 9"), std::string::npos) << result.out;
    return true;
  }

  // Expects each step once and in order. The record of the step before a kill may be missing, because sinks write it a
  // moment later.
  void ExpectSameRecords() const {
    std::map<int64_t, double> expected;
    for (const auto& record : Records(whole_)) expected[record["step"]] = record.value("train/loss", 0.0);
    int64_t last = -1;
    for (const auto& record : Records(run_)) {
      const int64_t step = record["step"];
      EXPECT_GT(step, last);
      last = step;
      EXPECT_EQ(record.value("train/loss", 0.0), expected[step]) << "step " << step;
      expected.erase(step);
    }
    for (const auto& [step, loss] : expected) absl::PrintF("no record of step %d\n", step);
    EXPECT_LE(expected.size(), static_cast<size_t>(kSteps / 2));
  }

  // Ends the chain; the next one begins anew.
  void Finish() {
    ExpectSameRecords();
    const std::string end = CheckpointFolder(run_, kSteps), expected = CheckpointFolder(whole_, kSteps);
    for (int rank = 0; rank < ranks_; ++rank) {
      const std::string name = absl::StrFormat("/rank-%04d.tensors", rank);
      const std::string bytes = ReadText(end + name);
      EXPECT_FALSE(bytes.empty());
      EXPECT_TRUE(bytes == ReadText(expected + name)) << end + name;
    }
    if (!::testing::Test::HasFailure()) std::filesystem::remove_all(run_);
  }

  const TinyProject& project_;
  int ranks_;
  std::mt19937_64 random_;
  std::string mesh_, whole_, run_, config_, log_;
  int starts_ = 0;
  Passes passes_;          // the most of any start
  std::set<Place> known_;  // waiting, or had their turn
  std::deque<Place> waiting_;
  std::map<Place, int> missed_;  // turns without a kill
};

class KillSweep : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    project_ = new TinyProject;
    // Ranks beside the killed one end at once. The rest of their work is no part of this.
    setenv("OMPI_MCA_odls_base_sigkill_timeout", "0", 1);
  }
  static void TearDownTestSuite() { delete project_; }

  static const TinyProject& project() { return *project_; }
  static void KillAt(int tensor, int data, const std::vector<Place>& first) {
    const auto seed = static_cast<uint64_t>(Variable("ISTHMUS_KILL_SEED", 1));
    const int64_t kills = Variable("ISTHMUS_KILLS", static_cast<int64_t>(first.size()));
    absl::PrintF("seed %d\n", seed);
    Chain chain(*project_, tensor, data, seed);
    chain.RunWhole();
    if (HasFailure()) return;
    const auto done = chain.Kill(kills, first);
    EXPECT_EQ(static_cast<int64_t>(done.size()), kills);
  }

 private:
  static TinyProject* project_;
};
TinyProject* KillSweep::project_ = nullptr;

TEST_F(KillSweep, OfTwoTensorRanksLosesNothing) {
  KillAt(2, 1, {{"checkpoint.renamed", 0}, {"file.write", 1}, {"checkpoint.remove", 0}});
}

TEST_F(KillSweep, OfTwoDataRanksLosesNothing) {
  KillAt(1, 2, {{"checkpoint.latest_rename", 0}, {"step.optimizer", 1}, {"checkpoint.load", 1}});
}

TEST_F(KillSweep, OfTwoByTwoRanksLosesNothing) { KillAt(2, 2, {{"checkpoint.sync", 3}, {"checkpoint.rename", 0}}); }

// No chain passes this one point, at which checkpoints newer than the one that a run continues from are set aside.
TEST_F(KillSweep, WhileADamagedCheckpointIsSetAsideLosesNothing) {
  const auto start = [](const std::string& faults) {
    return RunWithFaults(faults, absl::StrCat("train --resume auto --config ", project().WriteConfig("aside"),
                                              " --set schedule.steps=6 --set checkpoint.interval=2"));
  };
  ASSERT_EQ(start("").exit_status, 0);
  const std::string newest = CheckpointFolder(project() / "aside", 6), data = newest + "/rank-0000.tensors";
  const std::string expected = ReadText(data);
  WriteText(data, expected.substr(1));
  EXPECT_EQ(start("checkpoint.set_aside=kill").exit_status, 137);
  EXPECT_TRUE(std::filesystem::exists(newest));
  EXPECT_EQ(std::filesystem::read_symlink(project() / "aside/checkpoints/latest"), "step-00000004");
  // The first flush is that of the link.
  EXPECT_EQ(start("file.sync_folder#2=kill").exit_status, 137);
  EXPECT_TRUE(std::filesystem::exists(newest + ".set-aside"));
  const ProgramResult result = start("");
  EXPECT_EQ(result.exit_status, 0) << result.out;
  EXPECT_EQ(result.Count("continues after step 4"), 1) << result.out;
  EXPECT_TRUE(ReadText(data) == expected);
}

}  // namespace
}  // namespace isthmus::testing
