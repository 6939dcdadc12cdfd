// Commands write to paths that users name: links, pipes, devices, mounted folders. A run can start on a full disk.
#include <absl/cleanup/cleanup.h>
#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/support/paths.h"
#include "tests/support/program.h"
#include "tests/support/run_folder.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;

class OutputPaths : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    project_ = new TinyProject;
    const std::string run = *project_ / "shown";
    std::filesystem::create_directories(run);
    WriteText(run + "/config.textproto", "seed: 1\n");
    WriteText(run + "/metrics.jsonl", "{\"step\":1,\"tokens\":100,\"elapsed_seconds\":1,\"train/loss\":2}\n");
  }
  static void TearDownTestSuite() { delete project_; }
  static const TinyProject& project() { return *project_; }
  static std::string Report() { return absl::StrCat(ProgramPath(), " report ", project() / "shown"); }
  static std::string Encode() {
    return absl::StrCat("tokenizer encode --tokenizer ", project() / "tokenizer.model", " --validation-fraction 0.1 ",
                        project() / "corpus.jsonl", " --out ");
  }
  static void ExpectShards(const std::string& folder) {
    for (const char* part : {"/train/00000.ids", "/validation/00000.ids"}) {
      EXPECT_TRUE(ReadText(folder + part) == ReadText(project() / "tokens" + part)) << folder << part;
    }
  }
  static int EntriesOf(const std::string& folder) {
    return static_cast<int>(std::distance(std::filesystem::directory_iterator(folder), {}));
  }
  static ProgramResult Train(const std::string& name, const std::string& more) {
    return RunIsthmus(
        absl::StrCat("train --config ", project().WriteConfig(name), " --set checkpoint.interval=5 ", more));
  }

 private:
  static TinyProject* project_;
};
TinyProject* OutputPaths::project_ = nullptr;

TEST_F(OutputPaths, ReportsGoThroughLinksPipesAndStandardOutput) {
  const TemporaryFolder folder;
  const std::string page = folder / "page.html", link = folder / "link.html", pipe = folder / "pipe";
  ASSERT_EQ(RunShell(absl::StrCat(Report(), " --out ", page)).exit_status, 0);
  const std::string expected = ReadText(page);
  ASSERT_THAT(expected, HasSubstr("</html>"));
  WriteText(page, "old");
  std::filesystem::create_symlink("page.html", link);
  EXPECT_EQ(RunShell(absl::StrCat(Report(), " --out ", link)).exit_status, 0);
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  EXPECT_TRUE(ReadText(page) == expected);
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  // If the pipe were replaced, nobody would read the new file, and the pipe's reader would wait for ever.
  const ProgramResult piped = RunShell(
      absl::StrCat("cat ", pipe, " > ", page, " & ", Report(), " --out ", pipe, " || { kill $!; exit 1; }; wait $!"));
  EXPECT_EQ(piped.exit_status, 0) << piped.out;
  EXPECT_TRUE(std::filesystem::is_fifo(pipe));
  EXPECT_TRUE(ReadText(page) == expected);
  // Messages of the command are not part of the page. An ordinary user may not be allowed to open the output of root's
  // shell.
  const bool root = geteuid() == 0;
  for (const std::string& shared : {project().folder().path(), folder.path()}) {
    ASSERT_EQ(chmod(shared.c_str(), 0755), 0);
  }
  // This link is like /dev/stdout, which no test may put at risk.
  std::filesystem::create_symlink("/proc/self/fd/1", folder / "stdout");
  // The user may not reach the folder in which the program was built, but has a copy.
  const std::string copy = folder / "isthmus";
  std::filesystem::copy_file(ProgramPath(), copy);
  ASSERT_EQ(chmod(copy.c_str(), 0755), 0);
  for (const char* who : {"", "setpriv --reuid=65534 --regid=65534 --clear-groups "}) {
    if (*who != 0 && !root) continue;
    if (RunShell(absl::StrCat(who, "test -x ", copy)).exit_status != 0)
      GTEST_SKIP() << "an ordinary user can't reach " << copy;
    const ProgramResult out = RunShell(absl::StrCat("{ echo begin; ", who, copy, " report ", project() / "shown",
                                                    " --out ", folder / "stdout", "; echo end; } 2>&1 > ", page));
    EXPECT_TRUE(ReadText(page) == "begin\n" + expected + "end\n") << who << out.out;
  }
}

TEST_F(OutputPaths, WhatCanNotBeWrittenIsRefusedBeforeTheWork) {
  const TemporaryFolder folder;
  std::filesystem::create_symlink(folder / "gone/file", folder / "nowhere");
  const std::string nothing = folder / "nothing";
  // The inputs are missing, too, but the output path is checked first.
  const std::string commands[] = {
      absl::StrCat("report ", nothing, " --out "),
      absl::StrCat("decompose --hidden ", nothing, " --head ", nothing, " --targets ", nothing, " --json "),
      absl::StrCat("tokenizer train ", nothing, " --out "), absl::StrCat("plan --config ", nothing, " --json ")};
  for (const std::string& command : commands) {
    const ProgramResult is_folder = RunIsthmus(command + folder.path());
    EXPECT_EQ(is_folder.exit_status, 2) << is_folder.out;
    EXPECT_EQ(is_folder.Count(folder.path() + ": is a folder; name a file"), 1) << is_folder.out;
    const ProgramResult gone = RunIsthmus(command + (folder / "nowhere"));
    EXPECT_EQ(gone.exit_status, 2) << gone.out;
    EXPECT_EQ(gone.Count("nowhere: can"), 1) << gone.out;
  }
  EXPECT_EQ(EntriesOf(folder.path()), 1);
}

TEST_F(OutputPaths, AVocabularyGoesThroughAPipe) {
  const TemporaryFolder folder;
  const std::string pipe = folder / "pipe", copy = folder / "copy";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  const ProgramResult trained = RunShell(absl::StrCat("cat ", pipe, " > ", copy, " & OMP_NUM_THREADS=1 ", ProgramPath(),
                                                      " tokenizer train --vocabulary 300 --out ", pipe, " ",
                                                      project() / "corpus.jsonl", " || exit; wait $!"));
  EXPECT_EQ(trained.exit_status, 0) << trained.out;
  EXPECT_TRUE(std::filesystem::is_fifo(pipe));
  EXPECT_TRUE(ReadText(copy) == ReadText(project() / "tokenizer.model"));
}

TEST_F(OutputPaths, ShardsGoIntoTheFolderThatIsThere) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "empty");
  std::filesystem::create_directory_symlink("empty", folder / "link");
  std::filesystem::create_directory_symlink(folder / "yet-to-be", folder / "dangling");
  for (const char* name : {"link/", "dangling", "new"}) {
    const ProgramResult encoded = RunIsthmus(Encode() + (folder / name));
    EXPECT_EQ(encoded.exit_status, 0) << encoded.out;
    ExpectShards(folder / name);
  }
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link"));
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "dangling"));
  EXPECT_EQ(EntriesOf(folder / "empty"), 2);
  EXPECT_EQ(EntriesOf(folder.path()), 5);
  const ProgramResult again = RunIsthmus(Encode() + (folder / "link"));
  EXPECT_EQ(again.exit_status, 2) << again.out;
  EXPECT_EQ(again.Count("empty: is not empty, it holds "), 1) << again.out;
  WriteText(folder / "file", "");
  std::filesystem::create_directory_symlink("circle", folder / "circle");
  for (const char* name : {"file", "circle"}) {
    const ProgramResult refused = RunIsthmus(Encode() + (folder / name));
    EXPECT_EQ(refused.exit_status, 2) << refused.out;
    EXPECT_EQ(refused.Count(folder / name), 1) << refused.out;
  }
  EXPECT_TRUE(std::filesystem::is_regular_file(folder / "file"));
  // This disk is a file system of its own, like a container's volume.
  const std::string disk = folder / "disk";
  std::filesystem::create_directory(disk);
  if (geteuid() != 0 || mount("isthmus-test", disk.c_str(), "tmpfs", 0, "size=4m") != 0) {
    GTEST_SKIP() << "needs root and the right to mount a small tmpfs";
  }
  const absl::Cleanup unmount = [&disk] { umount2(disk.c_str(), MNT_DETACH); };
  std::filesystem::create_directory(disk + "/lost+found");
  const ProgramResult mounted = RunIsthmus(Encode() + disk);
  EXPECT_EQ(mounted.exit_status, 0) << mounted.out;
  ExpectShards(disk);
  EXPECT_EQ(EntriesOf(disk), 3);
}

TEST_F(OutputPaths, NamesOfShardFoldersMayBeLongOrEndInADot) {
  const TemporaryFolder folder;
  const std::string longest(255, 'n');
  for (const std::string& name : {longest, std::string("dot/."), std::string("dots/././/")}) {
    const ProgramResult encoded = RunIsthmus(Encode() + (folder / name));
    EXPECT_EQ(encoded.exit_status, 0) << encoded.out;
    ExpectShards(folder / name);
  }
  EXPECT_EQ(EntriesOf(folder.path()), 3);
  std::filesystem::create_symlink("new/..", folder / "link");
  for (const char* name : {"new/..", "new/../", "new/../.", "..", "link"}) {
    const ProgramResult refused = RunIsthmus(Encode() + (folder / name));
    EXPECT_EQ(refused.exit_status, 2) << refused.out;
    EXPECT_EQ(refused.Count("ends with .., which names no new folder"), 1) << refused.out;
  }
  EXPECT_EQ(EntriesOf(folder.path()), 4);
}

TEST_F(OutputPaths, AFolderThatAllowsNoRenamesIsFoundBeforeTheWork) {
  const TemporaryFolder folder;
  const std::string grows = folder / "grows";
  std::filesystem::create_directory(grows);
  if (RunShell(absl::StrCat("chattr +a ", grows)).exit_status != 0) {
    GTEST_SKIP() << "needs root and a file system with chattr +a";
  }
  const absl::Cleanup give_back = [&grows] { RunShell(absl::StrCat("chattr -a ", grows)); };
  const ProgramResult encoded = RunIsthmus(Encode() + grows + "/out");
  EXPECT_EQ(encoded.exit_status, 2) << encoded.out;
  EXPECT_EQ(encoded.Count(grows + ": no folder can be renamed there, as complete shards are"), 1) << encoded.out;
  EXPECT_EQ(encoded.Count("stay in"), 0) << encoded.out;
}

TEST_F(OutputPaths, WhatIsLeftOutOfAFolderOfTextsIsSaid) {
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder / "texts/sub");
  std::filesystem::copy_file(project() / "corpus.jsonl", folder / "texts/corpus.jsonl");
  for (const char* name : {"c.txt.xz", "d.TXT", "e.json", "f", "g", "h"})
    WriteText(folder / "texts" + ("/" + std::string(name)), "");
  const std::string texts = folder / "texts",
                    named = absl::StrCat("left out: ", texts, "/c.txt.xz, ", texts, "/d.TXT, ");
  for (const std::string& command :
       {absl::StrCat("tokenizer train --vocabulary 300 --out ", folder / "model", " ", texts),
        absl::StrCat("tokenizer encode --tokenizer ", project() / "tokenizer.model", " --out ", folder / "out ",
                     texts)}) {
    const ProgramResult result = RunShell(absl::StrCat(ProgramPath(), " ", command, " 2>&1 >/dev/null"));
    EXPECT_EQ(result.exit_status, 0) << result.out;
    EXPECT_EQ(result.Count(named), 1) << result.out;
    EXPECT_EQ(result.Count(texts + "/g and 2 more; accepted are files that end in .txt or .jsonl"), 1) << result.out;
  }
}

// Something else takes the name while the text is read, which a pipe holds up here.
TEST_F(OutputPaths, ShardsThatCanNotGetTheirNameStay) {
  const TemporaryFolder folder;
  const std::string text = folder / "text.jsonl", out = folder / "out";
  ASSERT_EQ(RunIsthmus(Encode() + out).exit_status, 0);
  for (const bool there : {false, true}) {
    std::filesystem::remove_all(out);
    if (there) std::filesystem::create_directory(out);
    std::filesystem::remove(text);
    ASSERT_EQ(mkfifo(text.c_str(), 0600), 0);
    const std::string staging = there ? out + "/encoding.*.tmp" : out + ".*.tmp";
    const ProgramResult encoded = RunShell(absl::StrCat(
        "OMP_NUM_THREADS=1 ", ProgramPath(), " tokenizer encode --tokenizer ", project() / "tokenizer.model", " --out ",
        out, " ", text, " & exec 7> ", text, "; until compgen -G \"", staging, "\" >/dev/null; do sleep 0.02; done; ",
        "mkdir -p ", out, "/train/taken; cat ", project() / "corpus.jsonl", " >&7; exec 7>&-; wait $!"));
    EXPECT_EQ(encoded.exit_status, 2) << encoded.out;
    EXPECT_EQ(encoded.Count("can't take the complete shards, which stay in " + out), 1) << encoded.out;
    const ProgramResult kept = RunShell(absl::StrCat("cat ", staging, "/train/00000.ids | wc -c"));
    EXPECT_GT(std::stoi(kept.out), 10'000) << kept.out;
  }
}

// A damaged text costs its own shard. So does a file that grows too large, which stands for a full disk.
TEST_F(OutputPaths, ShardsThatAreFinishedStayWhereALaterOneFails) {
  const TemporaryFolder folder;
  const std::string out = folder / "out";
  std::string long_text;
  for (int i = 0; i < 60'000; ++i) absl::StrAppend(&long_text, i, "\n");
  WriteText(folder / "a.txt", "the cat sees a red house\n");
  WriteText(folder / "b.txt", "some bread\n");
  WriteText(folder / "latin.txt",
            "the river\nfa\xE7"
            "ade\n");
  WriteText(folder / "long.txt", long_text);
  const int texts = EntriesOf(folder.path());
  const auto encode = [&](const std::string& limit, const std::string& files) {
    return RunShell(absl::StrCat("cd ", folder.path(), "; ", limit, " exec ", ProgramPath(), " tokenizer encode ",
                                 "--tokenizer ", project() / "tokenizer.model", " --shard-tokens 1 --out ", out, " ",
                                 files));
  };
  const std::pair<std::string, std::string> ends[] = {{"", "latin.txt"}, {"trap \"\" XFSZ; ulimit -f 64;", "long.txt"}};
  for (const auto& [limit, last] : ends) {
    const std::string message = limit.empty() ? "latin.txt:2: the text is not UTF-8" : "File too large";
    for (const bool there : {false, true}) {
      if (there) std::filesystem::create_directory(out);
      const ProgramResult nothing = encode(limit, last);
      EXPECT_EQ(nothing.exit_status, 2) << nothing.out;
      EXPECT_EQ(nothing.Count(message), 1) << nothing.out;
      EXPECT_EQ(nothing.Count("stay in"), 0) << nothing.out;
      EXPECT_EQ(EntriesOf(folder.path()), texts + (there ? 1 : 0)) << last;
      if (there) {
        EXPECT_EQ(EntriesOf(out), 0) << last;
      }
      const ProgramResult some = encode(limit, "a.txt b.txt " + last);
      EXPECT_EQ(some.exit_status, 2) << some.out;
      EXPECT_EQ(some.Count(message), 1) << some.out;
      EXPECT_EQ(some.Count("; the finished shards stay in " + out), 1) << some.out;
      const std::string kept = absl::StrCat(out, there ? "/encoding." : ".", "*.tmp");
      EXPECT_EQ(RunShell(absl::StrCat("cd ", kept, " && find -type f | sort")).out,
                "./train/00000.ids\n./train/00001.ids\n");
      EXPECT_EQ(RunIsthmus(absl::StrCat("data inspect ", kept, "/train")).exit_status, 0);
      const ProgramResult again = encode("", "a.txt b.txt");
      EXPECT_EQ(again.exit_status, there ? 2 : 0) << again.out;
      EXPECT_EQ(again.Count("the shards of an encoding that failed or still runs"), there ? 1 : 0) << again.out;
      RunShell(absl::StrCat("rm -r ", out, "*"));
    }
  }
}

// The disk of this test is a small file system of its own, which only root can mount.
TEST_F(OutputPaths, ARunGoesOnAtItsNextStartWhereTheDiskIsFull) {
  const std::string disk = project() / "disk", run = disk + "/run";
  std::filesystem::create_directories(disk);
  if (geteuid() != 0 || mount("isthmus-test", disk.c_str(), "tmpfs", 0, "size=2m") != 0) {
    GTEST_SKIP() << "needs root and the right to mount a small tmpfs";
  }
  const absl::Cleanup unmount = [&disk] { umount2(disk.c_str(), MNT_DETACH); };
  const std::string first = absl::StrCat("--set folder=", run, " --resume auto "),
                    more = first + "--set checkpoint.save_final=false ";
  ASSERT_EQ(Train("full", first + "--set schedule.steps=5").exit_status, 0);
  const std::string metrics = ReadText(run + "/metrics.jsonl");
  RunShell(absl::StrCat("cat /dev/zero > ", disk, "/full"));
  const ProgramResult result = Train("full", more);
  EXPECT_EQ(result.exit_status, 0) << result.out;
  EXPECT_EQ(result.Count("continues after step 5"), 1) << result.out;
  EXPECT_EQ(result.Count("trained 20 steps"), 1) << result.out;
  EXPECT_EQ(result.Count("the disk is full ("), 1) << result.out;
  EXPECT_TRUE(ReadText(run + "/metrics.jsonl").starts_with(metrics.substr(0, metrics.find('\n'))));
  // With two ranks heartbeats find no room either.
  const ProgramResult two =
      RunIsthmus(absl::StrCat("train --config ", project().WriteConfig("full"), " ", more, " --set mesh.data=2"), 2);
  EXPECT_EQ(two.exit_status, 0) << two.out;
  EXPECT_EQ(two.Count("the disk is full ("), 1) << two.out;
  // A run that begins fails at once.
  const ProgramResult begins = Train("full", absl::StrCat("--set folder=", disk, "/other"));
  EXPECT_EQ(begins.exit_status, 2) << begins.out;
  EXPECT_EQ(begins.Count("No space left on device"), 1) << begins.out;
  // Once there is room again, everything is written again.
  std::filesystem::remove(disk + "/full");
  const ProgramResult again = Train("full", more);
  EXPECT_EQ(again.exit_status, 0) << again.out;
  EXPECT_EQ(again.Count("the disk is full"), 0) << again.out;
  EXPECT_EQ(Losses(run).size(), 20u);
}

TEST_F(OutputPaths, NoRecordIsLostToADamagedOneAtTheNextStart) {
  ASSERT_EQ(Train("digit", "--set schedule.steps=5").exit_status, 0);
  const std::string metrics = project() / "digit/metrics.jsonl";
  std::string text = ReadText(metrics);
  const size_t digit = text.find("{\"step\":2,");
  ASSERT_NE(digit, std::string::npos);
  text[digit + 8] = '9';
  WriteText(metrics, text);
  const ProgramResult result = Train("digit", "--resume auto --set schedule.steps=8");
  EXPECT_EQ(result.exit_status, 0) << result.out;
  EXPECT_EQ(result.Count("metrics.jsonl: line 3 is damaged or out of order; all of it is in "), 1) << result.out;
  EXPECT_THAT(ReadText(project() / "digit/log/rank-0000.log"), HasSubstr("line 3 is damaged or out of order"));
  EXPECT_TRUE(ReadText(metrics + ".1") == text);
  EXPECT_EQ(Losses(project() / "digit").size(), 7u);
}

// The first machine's clock was years ahead.
TEST_F(OutputPaths, CurvesOfTensorBoardAreWholeWhateverTheClocksWere) {
  ASSERT_EQ(Train("clocks", "--set schedule.steps=10").exit_status, 0);
  for (const auto& entry : std::filesystem::directory_iterator(project() / "clocks")) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("events.out.tfevents.")) continue;
    std::filesystem::rename(entry.path(), project() / "clocks/events.out.tfevents.4000000000.zzz.1.00");
    break;
  }
  ASSERT_EQ(Train("clocks", "--set schedule.steps=15 --resume auto").exit_status, 0);
  ASSERT_EQ(Train("clocks", "--set schedule.steps=20 --resume auto").exit_status, 0);
  const ProgramResult read =
      RunShell(SourceFolder() + "/tests/support/read_tensorboard " + (project() / "clocks") + " 2>/dev/null");
  if (read.exit_status == 77) GTEST_SKIP() << read.out;
  ASSERT_EQ(read.exit_status, 0) << read.out;
  const auto losses = nlohmann::json::parse(read.out)["scalars"]["train/loss"];
  ASSERT_EQ(losses.size(), 20u);
  for (size_t i = 0; i < losses.size(); ++i) EXPECT_EQ(losses[i][0], i + 1);
}

}  // namespace
}  // namespace isthmus::testing
