// A result never takes the place of a file that the command reads, or of one that a run keeps.
#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <string>

#include "tests/support/paths.h"
#include "tests/support/program.h"

namespace isthmus::testing {
namespace {

class ResultPaths : public ::testing::Test {
 protected:
  ResultPaths() {
    for (const char* sub : {"/run/log", "/run/checkpoints/step-00000001", "/run/head-step-00000001", "/lone"}) {
      std::filesystem::create_directories(folder_.path() + sub);
    }
    Make("run/config.textproto", "seed: 1\n");
    Make("run/metrics.jsonl", "{\"step\":1,\"tokens\":100,\"elapsed_seconds\":1,\"train/loss\":2}\n");
    for (const char* name : {"metrics.jsonl.1", "metrics.prom", "events.out.tfevents.1.x", "matmul-algorithms.json",
                             "log/rank-0000.log", "checkpoints/step-00000001/manifest.pb",
                             "checkpoints/step-00000001/weights.bin", "head-step-00000001/head.npy"}) {
      Make(absl::StrCat("run/", name), name);
    }
    Make("lone/manifest.pb", "m");
    Make("lone/weights.bin", "w");
    std::filesystem::create_directory_symlink("step-00000001", folder_ / "run/checkpoints/latest");
  }
  void Make(const std::string& name, const std::string& text) {
    WriteText(folder_ / name, text);
    files_[folder_ / name] = text;
  }
  // Expects status 2 and a message with `part`, and all files as they were.
  void ExpectRefused(const std::string& arguments, const std::string& part) {
    const ProgramResult result = RunShell(absl::StrCat("cd ", folder_.path(), "; ", ProgramPath(), " ", arguments));
    EXPECT_EQ(result.exit_status, 2) << arguments << "\n" << result.out;
    EXPECT_EQ(result.Count(part), 1) << arguments << "\n" << result.out;
    EXPECT_EQ(result.Count("; name another"), 1) << arguments << "\n" << result.out;
    for (const auto& [path, text] : files_) EXPECT_EQ(ReadText(path), text) << arguments << ": " << path;
  }

  TemporaryFolder folder_;
  std::map<std::string, std::string> files_;
};

TEST_F(ResultPaths, AReportSparesTheRunsFiles) {
  for (const auto& [path, text] : std::map<std::string, std::string>(files_)) {
    const std::string name = std::filesystem::path(path).lexically_relative(folder_.path()).string();
    const bool read = name == "run/metrics.jsonl" || name == "run/config.textproto";
    const bool checkpoint = std::filesystem::exists(std::filesystem::path(path).parent_path() / "manifest.pb");
    ExpectRefused(absl::StrCat("report --out ", name, " run"), absl::StrCat("--out: ", name,
                                                                            read ? " is a file that is read (run/"
                                                                            : checkpoint ? " is in the checkpoint "
                                                                                         : " is a file that the run "));
  }
  for (const char* name : {"run/log/page.html", "run/checkpoints/page.html", "run/metrics.jsonl.2"}) {
    ExpectRefused(absl::StrCat("report --out ", name, " run/"), " is a file that the run ");
    EXPECT_FALSE(std::filesystem::exists(folder_ / name)) << name;
  }
  // It is refused by a bare name, too.
  const ProgramResult bare = RunShell(absl::StrCat("cd ", folder_ / "run/log; ", ProgramPath(), " report ..; ls"));
  EXPECT_EQ(bare.Count("--out: report.html is a file that the run "), 1) << bare.out;
  EXPECT_EQ(bare.Count("\nrank-0000.log\n"), 1) << bare.out;
  ExpectRefused("report --out run/checkpoints/latest/weights.bin run", " is in the checkpoint ");
  // These are other names of the same files.
  std::filesystem::create_symlink("run/metrics.jsonl", folder_ / "link");
  std::filesystem::create_hard_link(folder_ / "run/metrics.jsonl", folder_ / "hard");
  std::filesystem::create_hard_link(folder_ / "run/log/rank-0000.log", folder_ / "hard.log");
  ExpectRefused("report --out link run", "--out: link is a file that is read (run/metrics.jsonl)");
  ExpectRefused("report --out hard run", "--out: hard is a file that is read (run/metrics.jsonl)");
  ExpectRefused("report --out hard.log run", "--out: hard.log is another name of run/log/rank-0000.log");
  // A run's folder may hold its report, time and again.
  for (int times = 0; times < 2; ++times) {
    const ProgramResult good = RunIsthmus(absl::StrCat("report --out ", folder_ / "run/report.html ", folder_ / "run"));
    EXPECT_EQ(good.exit_status, 0) << good.out;
  }
}

TEST_F(ResultPaths, OtherCommandsSpareWhatTheyRead) {
  Make("in.txt", "the cat sees a red house\n");
  Make("more.txt", "some bread\n");
  std::filesystem::create_symlink("in.txt", folder_ / "link.txt");
  for (const char* name : {"in.txt", "./more.txt", "link.txt"}) {
    ExpectRefused(absl::StrCat("tokenizer train --vocabulary 300 --out ", name, " in.txt more.txt"),
                  absl::StrCat("--out: ", name, " is a file that is read ("));
    ExpectRefused(absl::StrCat("tokenizer train --vocabulary 300 --out ", name, " ."),
                  absl::StrCat("--out: ", name, " is a file that is read ("));
  }
  ExpectRefused("tokenizer train --vocabulary 300 --out run/metrics.jsonl in.txt", " is a file that the run ");
  Make("plan.textproto", "seed: 1\n");
  ExpectRefused("plan --config plan.textproto --json plan.textproto",
                "--json: plan.textproto is a file that is read (plan.textproto)");
  for (const char* name : {"h.npy", "w.npy", "y.npy", "c.npy"}) Make(name, name);
  for (const char* name : {"h.npy", "w.npy", "y.npy", "c.npy"}) {
    ExpectRefused(absl::StrCat("decompose --hidden h.npy --head w.npy --targets y.npy --counts c.npy --json ", name),
                  absl::StrCat("--json: ", name, " is a file that is read (", name, ")"));
  }
  std::filesystem::create_directory(folder_ / "tokens");
  Make("tokens/00000.ids", "ids");
  ExpectRefused("decompose --checkpoint lone --corpus tokens --json tokens/00000.ids",
                "is a file that is read (tokens/00000.ids)");
  ExpectRefused("decompose --checkpoint lone --corpus tokens --json lone/weights.bin", " is in the checkpoint ");
  ExpectRefused("decompose --checkpoint run --corpus tokens --json run/head-step-00000001/head.npy",
                " is a file that the run ");
}

}  // namespace
}  // namespace isthmus::testing
