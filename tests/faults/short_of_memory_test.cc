// If the program needs more memory than there is, it ends with a message and the right status, never with a signal.
#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include "runtime/data/tokenizer.h"
#include "tests/support/paths.h"
#include "tests/support/program.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;

class ShortOfMemory : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { project_ = new TinyProject; }
  static void TearDownTestSuite() { delete project_; }
  static const TinyProject& project() { return *project_; }
  static std::string Sparse(const std::string& name, uintmax_t bytes) {
    WriteText(project() / name, "");
    std::filesystem::resize_file(project() / name, bytes);
    return project() / name;
  }
  // A limit of the address space, in KiB. It suffices to start the program, with or without CUDA's libraries, but not
  // to read the file.
  static int64_t Limit() {
    constexpr int64_t kStep = 100'000, kMost = 20'000'000, kForWork = 350'000;
    int64_t start = kStep;
    while (start < kMost && RunShell(absl::StrCat("ulimit -v ", start, "; ", ProgramPath(), " version")).exit_status) {
      start += kStep;
    }
    return start + kForWork;
  }

 private:
  static TinyProject* project_;
};
TinyProject* ShortOfMemory::project_ = nullptr;

TEST_F(ShortOfMemory, AProcessAloneEndsWithStatusTwo) {
  const std::string large = Sparse("large.model", kMostTokenizerBytes);
  const int64_t limit = Limit();
  for (const std::string& arguments :
       {absl::StrCat("tokenizer encode --tokenizer ", large, " --out ", project() / "out ", project() / "corpus.jsonl"),
        absl::StrCat("train --config ", project().WriteConfig("alone"), " --set data.tokenizer=", large)}) {
    SCOPED_TRACE(arguments);
    const ProgramResult result =
        RunShell(absl::StrCat("ulimit -v ", limit, "; OMP_NUM_THREADS=1 ", ProgramPath(), " ", arguments));
    EXPECT_EQ(result.exit_status, 2) << result.out;
    EXPECT_EQ(result.Count("isthmus: there is not enough memory (std::bad_alloc); "), 1) << result.out;
  }
}

// Other ranks may wait for this one, so the job ends on all of them.
TEST_F(ShortOfMemory, OneOfSeveralRanksEndsTheJobWithStatusFour) {
  const std::string large = Sparse("large.model", kMostTokenizerBytes);
  // Rank 1 alone has the limit.
  WriteText(project() / "rank",
            absl::StrCat("[ $OMPI_COMM_WORLD_RANK = 0 ] || ulimit -v ", Limit(), "\nexec ", ProgramPath(),
                         " train --config ", project().WriteConfig("rank-run"), " --set data.tokenizer=", large, "\n"));
  const ProgramResult result =
      RunShell(absl::StrCat("OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1 ",
                            LauncherPath(), " --oversubscribe --bind-to none -n 2 bash ", project() / "rank"));
  EXPECT_EQ(result.exit_status, 4) << result.out;
  EXPECT_EQ(result.Count("isthmus: rank 1: there is not enough memory (std::bad_alloc); "), 1) << result.out;
}

TEST_F(ShortOfMemory, ThreadsThatCannotBeStartedAreNamed) {
  // Each thread's stack is then larger than all addresses.
  const ProgramResult result = RunShell(absl::StrCat(
      "ulimit -s 1000000000000 || exit 77; OMP_NUM_THREADS=2 ", ProgramPath(), " tokenizer encode --tokenizer ",
      project() / "tokenizer.model", " --out ", project() / "out ", project() / "corpus.jsonl"));
  if (result.exit_status == 77) GTEST_SKIP() << "the hard limit of stacks is finite: " << result.out;
  EXPECT_EQ(result.exit_status, 2) << result.out;
  EXPECT_THAT(result.out, HasSubstr("only 1 of 2 threads can be started"));
}

// Files without an end, or larger than a file of their kind can be.
TEST_F(ShortOfMemory, FilesWithoutAnEndAreRefusedAtAStatedSize) {
  const std::string sparse = Sparse("sparse", uintmax_t{10} << 30);
  const auto expect = [](const std::string& arguments, const std::string& message) {
    const ProgramResult result = RunShell(absl::StrCat("OMP_NUM_THREADS=1 ", ProgramPath(), " ", arguments));
    EXPECT_EQ(result.exit_status, 2) << result.out;
    EXPECT_EQ(result.Count(message), 1) << "expected once: " << message << "\n" << result.out;
  };
  expect("train --config /dev/zero", "/dev/zero: has more than 16777216 bytes; accepts at most 16777216");
  expect("plan --config /dev/urandom", "/dev/urandom: has more than 16777216 bytes");
  expect("plan --config <(yes)", "has more than 16777216 bytes");
  expect("plan --config " + sparse, sparse + ": has 10737418240 bytes; accepts at most 16777216");
  expect(
      absl::StrCat("tokenizer encode --tokenizer ", sparse, " --out ", project() / "out ", project() / "corpus.jsonl"),
      sparse + ": has 10737418240 bytes; accepts at most 536870912");
  expect("decompose --hidden /dev/zero --head /dev/zero --targets /dev/zero", "/dev/zero: is not a file");
}

// Brackets within brackets make a recursive parser run out of stack.
TEST_F(ShortOfMemory, DeepNestingInARunFolderIsAnErrorOrIsPassedOver) {
  std::filesystem::create_directory(project() / "nested");
  const std::string deep(4 << 20, '['), close(4 << 20, ']');
  const std::string report = absl::StrCat("report --out ", project() / "page.html ", project() / "nested");
  WriteText(project() / "nested/metrics.jsonl",
            absl::StrCat("{\"step\":1,\"tokens\":8,\"layers\":", deep, close, "}\n"));
  EXPECT_EQ(RunIsthmus(report).exit_status, 0);
  WriteText(project() / "nested/metrics.jsonl", deep + "\n");
  const ProgramResult broken = RunIsthmus(report);
  EXPECT_EQ(broken.exit_status, 2) << broken.out;
  EXPECT_EQ(broken.Count("metrics.jsonl:1: is not a JSON object"), 1) << broken.out;
  // A record is a line; this one has no end.
  std::filesystem::resize_file(project() / "nested/metrics.jsonl", uintmax_t{50} << 30);
  const ProgramResult endless = RunIsthmus(report);
  EXPECT_EQ(endless.exit_status, 2) << endless.out;
}

}  // namespace
}  // namespace isthmus::testing
