// If a rank stops, hangs or is slow, it is named, and the job ends on all ranks, leaving no process.
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <thread>

#include "launch/watch/heartbeat.h"
#include "tests/support/paths.h"
#include "tests/support/program.h"
#include "tests/support/run_folder.h"
#include "tests/support/watched_run.h"

namespace isthmus::testing {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Returns the processes that have `text` in their command line. A process that mpirun has killed may take a moment to
// be gone.
std::set<std::string> ProcessesWith(const std::string& text) {
  std::set<std::string> found;
  for (int tries = 0; tries < 10 * kPatience; ++tries) {
    found.clear();
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator("/proc", ignored)) {
      if (absl::StrContains(ReadText(entry.path().string() + "/cmdline"), text)) found.insert(entry.path().filename());
    }
    if (found.empty()) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  return found;
}

class Hang : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { project_ = new TinyProject; }
  static void TearDownTestSuite() { delete project_; }
  static TinyProject& project() { return *project_; }

  // A run whose collectives have a deadline that no machine is too slow for. It passes when the test says so.
  class Run {
   public:
    Run(const std::string& name, int ranks, const std::string& mesh, const std::string& faults)
        : name_(name),
          config_(project().WriteConfig(name, absl::StrCat("mesh { ", mesh,
                                                           " collective_timeout_seconds: 3600 } "
                                                           "checkpoint { save_final: false }"))),
          run_(project() / name, faults, "train --config " + config_, ranks) {}
    // Waits until a rank's heartbeat shows this place, and, with `waits`, until it shows that the rank waits for
    // others.
    Heartbeat AwaitPlace(int rank, int64_t step, const std::string& phase, bool waits = false) {
      return run_.Await(rank, [&](const Heartbeat& beat) {
        return beat.step == step && (phase.empty() || beat.phase == phase) && (!waits || beat.waiting.has_value());
      });
    }
    void Stop(const Heartbeat& beat) {
      if (beat.process > 0) {
        EXPECT_EQ(kill(static_cast<pid_t>(beat.process), SIGSTOP), 0);
      }
    }
    void AwaitLog(int rank, const std::string& text) {
      while (!absl::StrContains(LogOf(name_, rank), text) && !run_.Ended()) continue;
    }
    // Expects that the job ends with status 4.
    std::string ExpectEnds() {
      run_.SetHaste(1e9);
      const ProgramResult& result = run_.Result();
      EXPECT_EQ(result.exit_status, 4) << result.out;
      EXPECT_EQ(result.Count("late: rank "), 1) << "one rank, said once\n" << result.out;
      EXPECT_THAT(ProcessesWith(config_), IsEmpty());
      // Rank 0's log has the report too, if it can be written.
      EXPECT_THAT(ReadText(project() / (name_ + "/log/hang.txt")), HasSubstr("late: rank "));
      return result.out;
    }

   private:
    std::string name_, config_;
    WatchedRun run_;
  };
  static std::string LogOf(const std::string& name, int rank) {
    return ReadText(project() / absl::StrCat(name, "/log/rank-000", rank, ".log"));
  }
  // Returns the last collective of a rank that wrote its ring.
  static nlohmann::json LastCollective(const std::string& name, int rank) {
    const std::string ring = ReadText(project() / absl::StrCat(name, "/log/rank-000", rank, ".collectives.jsonl"));
    const std::vector<std::string> lines = absl::StrSplit(ring, '\n', absl::SkipEmpty());
    EXPECT_GT(lines.size(), 20u) << name << " " << rank;
    return lines.empty() ? nlohmann::json() : nlohmann::json::parse(lines.back());
  }

 private:
  static TinyProject* project_;
};
TinyProject* Hang::project_ = nullptr;

// Returns the fault that makes a rank sleep when it passes the point for that time.
std::string SleepAt(const std::string& point, const std::string& hit) {
  return absl::StrCat(point, hit, "=sleep:100000");
}

TEST_F(Hang, AStoppedRankIsNamedWithTheCollectiveAndTheStep) {
  Run run("stopped", 2, "", SleepAt("step.forward", "@1#3"));
  run.Stop(run.AwaitPlace(1, 3, "forward"));
  run.AwaitPlace(0, 3, "reduce", /*waits=*/true);
  run.AwaitLog(0, "has shown no sign of life");
  const std::string out = run.ExpectEnds();
  EXPECT_THAT(out,
              ContainsRegex("late: rank 1 \\(process [0-9]+ on [^)]+\\), which shows no sign of life: [^\n]*"
                            "it has not entered all_reduce #[0-9]+ \\([0-9]+ bytes\\) of the data group, for "
                            "which rank 0 has waited for [0-9]+ s in step 3, reduce; last seen in step 3, forward\n"));
  const std::string log = LogOf("stopped", 0);
  const size_t warned = log.find("rank 1 (process "), reported = log.find("late: rank 1 ");
  EXPECT_THAT(log,
              ContainsRegex("warning rank=0 step=3 rank 1 [^\n]* has shown no sign of life for [0-9]+ s; last seen "
                            "in step 3, forward"));
  EXPECT_LT(warned, reported) << "it was warned of before the deadline\n" << log;
  const nlohmann::json last = LastCollective("stopped", 0);
  EXPECT_EQ(last["group"], "data");
  EXPECT_EQ(last["step"], 3);
  EXPECT_TRUE(last["end"].is_null());
}

TEST_F(Hang, OfAMeshTheRankThatStoppedIsNamedThoughItIsRankZero) {
  Run run("mesh", 4, "tensor: 2 data: 2", SleepAt("step.backward", "@0#2"));
  run.Stop(run.AwaitPlace(0, 2, "backward"));
  for (const int rank : {1, 3}) run.AwaitPlace(rank, 2, "", /*waits=*/true);
  const std::string out = run.ExpectEnds();
  EXPECT_THAT(out, ContainsRegex("late: rank 0 [^\n]*shows no sign of life[^\n]*last seen in step 2, backward\n"));
  EXPECT_EQ(LastCollective("mesh", 1)["step"], 2);
  EXPECT_EQ(LastCollective("mesh", 3)["step"], 2);
}

TEST_F(Hang, ARankThatLivesButHangsIsToldFromOneThatStopped) {
  Run run("alive", 2, "tensor: 2", SleepAt("step.optimizer", "@1#2"));
  run.AwaitPlace(1, 2, "optimizer");
  run.AwaitPlace(0, 2, "", /*waits=*/true);
  const std::string out = run.ExpectEnds();
  EXPECT_THAT(out,
              ContainsRegex("late: rank 1 [^\n]*whose process is alive; it has not entered [^\n]*last seen in step "
                            "2, optimizer\n"));
  // The rank itself says what it did before.
  EXPECT_EQ(LastCollective("alive", 1)["step"], 2);
  EXPECT_THAT(LogOf("alive", 0), HasSubstr("late: rank 1 "));
}

TEST_F(Hang, AJobThatIsSuspendedLongerThanTheDeadlineGoesOn) {
  const std::string config =
      project().WriteConfig("suspended", "mesh { collective_timeout_seconds: 3600 } checkpoint { save_final: false }");
  const std::string go = project() / "suspended.go";
  WatchedRun run(project() / "suspended", absl::StrCat("step.forward@1#3=stop;step.forward#5=await:", go),
                 "train --config " + config, 2);
  const auto waits = [](const Heartbeat& beat) { return beat.step >= 3 && beat.waiting.has_value(); };
  // Rank 1 has stopped; rank 0 is stopped where it waits for it.
  const auto second = static_cast<pid_t>(run.Await(1, [](const Heartbeat& beat) { return beat.process > 0; }).process);
  while (!absl::StrContains(ReadText(absl::StrCat("/proc/", second, "/status")), "State:\tT") && !run.Ended()) continue;
  const auto first = static_cast<pid_t>(run.Await(0, waits).process);
  ASSERT_TRUE(first > 0 && second > 0);
  EXPECT_EQ(kill(first, SIGSTOP), 0);
  std::this_thread::sleep_for(std::chrono::seconds(21));  // the test needs real time to pass
  EXPECT_EQ(kill(second, SIGCONT), 0);
  // Rank 1 waits for rank 0 before that finds out how late it is, so that only the suspension can count.
  run.Await(1, waits);
  run.SetHaste(180);  // a deadline of 20 s
  EXPECT_EQ(kill(first, SIGCONT), 0);
  for (const int rank : {0, 1}) run.Await(rank, [](const Heartbeat& beat) { return beat.step == 5; });
  run.SetHaste(1);
  WriteText(go, "");
  const ProgramResult& result = run.Result();
  EXPECT_EQ(result.exit_status, 0) << result.out;
  EXPECT_FALSE(std::filesystem::exists(HeartbeatPath(project() / "suspended", 0))) << "training ended well";
  EXPECT_FALSE(std::filesystem::exists(project() / "suspended/log/hang.txt"));
}

TEST_F(Hang, WaitingForACheckpointThatIsWrittenInTheBackgroundIsNone) {
  const std::string config = project().WriteConfig("saving",
                                                   "mesh { collective_timeout_seconds: 3600 setup_timeout_seconds: "
                                                   "1000000 } checkpoint { interval: 2 save_final: false }");
  const std::string disk = project() / "saving.disk";
  WatchedRun run(project() / "saving", absl::StrCat("checkpoint.sync@1=await:", disk),
                 "train --config " + config + " --set schedule.steps=5", 2);
  // The checkpoint of step 4 waits for that of step 2.
  run.AwaitWait(0, 4, "saving a checkpoint", 1);
  run.SetHaste(360);  // a step's deadline of 10 s
  const Heartbeat waiting = run.AwaitWait(0, 4, "saving a checkpoint", 12);
  run.SetHaste(1);
  WriteText(disk, "");
  const ProgramResult& result = run.Result();
  EXPECT_EQ(result.exit_status, 0) << result.out;
  EXPECT_TRUE(waiting.waiting.has_value());
  double waited = 0;
  for (const auto& record : Records(project() / "saving")) waited += record.value("checkpoint/wait_seconds", 0.0);
  EXPECT_GE(waited, 11.9);
}

// Rank 0 computes the spectrum of a large sample, which takes longer than other steps.
TEST_F(Hang, WaitingForALargeSamplesSpectrumIsNone) {
  const std::string config = project().WriteConfig("sample",
                                                   "mesh { collective_timeout_seconds: 3600 setup_timeout_seconds: "
                                                   "1000000 } checkpoint { save_final: false }");
  const std::string found = project() / "sample.found";
  WatchedRun run(project() / "sample", absl::StrCat("step.forward@0#3=await:", found),
                 absl::StrCat("train --config ", config, " --set schedule.steps=3 --set batch.sequences=36 ",
                              "--set telemetry.sample_tokens=1026"),
                 2);
  const auto waits = [&](double seconds) {
    return run.Await(1, [&](const Heartbeat& beat) {
      return beat.step == 3 && beat.waiting.has_value() && beat.waiting->waited >= seconds;
    });
  };
  waits(1);
  run.SetHaste(1800);  // a step's deadline of 2 s
  waits(4);
  run.SetHaste(1);
  WriteText(found, "");
  const ProgramResult& result = run.Result();
  EXPECT_EQ(result.exit_status, 0) << result.out;
}

TEST_F(Hang, ASlowRankIsNamedAndMeasured) {
  const std::string config = project().WriteConfig("slow", "checkpoint { save_final: false }");
  const ProgramResult result =
      RunWithFaults("step.forward@1#*=sleep:0.2", "train --config " + config + " --set schedule.steps=60", 2);
  EXPECT_EQ(result.exit_status, 0) << result.out;
  const std::string log = LogOf("slow", 0);
  EXPECT_THAT(log, ContainsRegex("warning rank=0 step=[0-9]+ rank 1 is slow: its own work takes 0[.][0-9]+ s a step"));
  // Counts windows in which rank 1 is the slow one, and rank 0, which waits for it, is not: waiting is no work. On a
  // busy machine rank 0 may be slow by itself in some.
  int windows = 0, told = 0;
  for (const auto& record : Records(project() / "slow")) {
    if (!record.contains("stragglers")) continue;
    ++windows;
    std::map<int, double> ratios;
    for (const auto& straggler : record["stragglers"]) {
      if (straggler["phase"] != "forward") continue;
      const int rank = straggler["rank"];
      ratios[rank] = straggler["slowdown_ratio"];
      if (rank == 1) {
        EXPECT_GE(straggler["compute_seconds"], 0.2);
      }
    }
    if (ratios[1] >= 1.3 && ratios[0] == 1.0) ++told;
  }
  EXPECT_EQ(windows, 6);
  EXPECT_GE(told, 1);
}

// Gives each rank a command of its own, by a script that looks at the rank. Open MPI 5's mpirun does not always start
// several programs.
ProgramResult RunRanks(const std::vector<std::string>& ranks) {
  const TemporaryFolder folder;
  std::string script = "case $OMPI_COMM_WORLD_RANK in\n";
  for (size_t rank = 0; rank < ranks.size(); ++rank) absl::StrAppend(&script, rank, ") exec ", ranks[rank], ";;\n");
  WriteText(folder / "rank", script + "esac\n");
  return RunShell(absl::StrCat("OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1 ",
                               LauncherPath(), " --oversubscribe --bind-to none -n ", ranks.size(), " bash ",
                               folder / "rank"));
}

class RanksThatDiffer : public Hang {};

TEST_F(RanksThatDiffer, OtherBuildsOfTheProgramAreFoundAtTheStart) {
  const std::string arguments = " train --config " + project().WriteConfig("builds");
  const ProgramResult result =
      RunRanks({ProgramPath() + arguments, ProgramWithFaultsPath() + arguments, ProgramPath() + arguments});
  EXPECT_EQ(result.exit_status, 2) << result.out;
  EXPECT_EQ(result.Count("isthmus: "), 1) << result.out;
  EXPECT_THAT(result.out,
              ContainsRegex("rank 1 has another build of the program: version [^,]+, build [0-9a-f]{40}; "
                            "rank 0 has: version [^,]+, build [0-9a-f]{40}; start all ranks with the same"));
  EXPECT_FALSE(std::filesystem::exists(project() / "builds"));
}

TEST_F(RanksThatDiffer, OtherArgumentsAreFoundAtTheStart) {
  const std::string command = ProgramPath() + " train --config " + project().WriteConfig("arguments");
  const ProgramResult result = RunRanks({command, command + " --set batch.sequences=16"});
  EXPECT_EQ(result.exit_status, 2) << result.out;
  EXPECT_EQ(result.Count("isthmus: "), 1) << result.out;
  EXPECT_THAT(result.out,
              ContainsRegex("rank 1 has another command line: isthmus train [^;]* --set batch.sequences=16; "
                            "rank 0 has: isthmus train [^;]*; start all ranks with the same one"));
  // Only one rank would have refused this command line.
  const ProgramResult unknown = RunRanks({command, command + " --unknown"});
  EXPECT_EQ(unknown.exit_status, 2) << unknown.out;
  EXPECT_EQ(unknown.Count("rank 1 has another command line"), 1) << unknown.out;
}

TEST_F(RanksThatDiffer, AnotherConfigurationUnderTheSameNameIsFoundAtTheStart) {
  for (const char* node : {"node1", "node2"}) {
    std::filesystem::create_directory(project() / node);
    std::filesystem::rename(project().WriteConfig("run", absl::StrCat("# as on ", node, "\n")),
                            project() / absl::StrCat(node, "/run.textproto"));
  }
  WriteText(project() / "node2/run.textproto", ReadText(project() / "node2/run.textproto") + "seed: 1\n");
  const auto rank = [&](const std::string& node) {
    return absl::StrCat("env -C ", project() / node, " ", ProgramPath(), " train --config run.textproto");
  };
  const ProgramResult result = RunRanks({rank("node1"), rank("node2")});
  EXPECT_EQ(result.exit_status, 2) << result.out;
  EXPECT_EQ(result.Count("isthmus: "), 1) << result.out;
  EXPECT_THAT(result.out,
              ContainsRegex("rank 1 has another file run.textproto: [0-9]+ bytes with checksum [0-9a-f]{8}; "
                            "rank 0 has: [0-9]+ bytes with checksum [0-9a-f]{8}; copy the right one"));
  EXPECT_FALSE(std::filesystem::exists(project() / "run"));
}

}  // namespace
}  // namespace isthmus::testing
