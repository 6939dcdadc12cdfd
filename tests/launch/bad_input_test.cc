// After a user's mistake or a disk's fault there is one clear message, and all ranks have the right exit status.
// Nothing is lost, and nothing hangs.
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/paths.h"
#include "tests/support/program.h"
#include "tests/support/run_folder.h"

namespace isthmus::testing {
namespace {

class BadInput : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    // After a rank has failed mpirun would wait for seconds before it ends the others, which have ended by themselves.
    setenv("OMPI_MCA_odls_base_sigkill_timeout", "0", /*replace=*/1);
    project_ = new TinyProject;
  }
  static void TearDownTestSuite() { delete project_; }
  static TinyProject& project() { return *project_; }

  // Trains on two ranks, and expects the exit status, and `message` exactly once.
  static void ExpectTrainFails(const std::string& name, const std::string& arguments, const std::string& message,
                               int exit_status = 2) {
    const std::string config = project().WriteConfig(name);
    const ProgramResult result = RunIsthmus(absl::StrCat("train --config ", config, " ", arguments), 2);
    EXPECT_EQ(result.exit_status, exit_status) << result.out;
    EXPECT_EQ(result.Count(message), 1) << "expected once: " << message << "\n" << result.out;
    EXPECT_EQ(result.Count("isthmus: "), 1) << result.out;
  }
  static void ExpectFails(const std::string& arguments, const std::string& message) {
    const ProgramResult result = RunIsthmus(arguments);
    EXPECT_EQ(result.exit_status, 2) << result.out;
    EXPECT_EQ(result.Count(message), 1) << "expected once: " << message << "\n" << result.out;
  }

 private:
  static TinyProject* project_;
};
TinyProject* BadInput::project_ = nullptr;

TEST_F(BadInput, MissingConfigurationIsNamed) {
  const ProgramResult result = RunIsthmus("train --config /nowhere/run.textproto", 2);
  EXPECT_EQ(result.exit_status, 2) << result.out;
  EXPECT_EQ(result.Count("/nowhere/run.textproto: can"), 1) << result.out;
}

TEST_F(BadInput, UnknownFieldIsNamedWithItsLine) {
  const std::string config = project().WriteConfig("unknown", "precision { computer: FP32 }");
  const ProgramResult result = RunIsthmus("train --config " + config, 2);
  EXPECT_EQ(result.exit_status, 2) << result.out;
  EXPECT_EQ(result.Count("unknown.textproto:"), 1) << result.out;
  EXPECT_EQ(result.Count("no field named \"computer\""), 1) << result.out;
  ExpectTrainFails("override", "--set optimizer.rate=1", "unknown field \"rate\"");
  ExpectTrainFails("option", "--confg x", "unknown option --confg");
}

TEST_F(BadInput, LearningRateThatIsNotANumberIsRejected) {
  ExpectTrainFails("nan", "--set optimizer.learning_rate=nan", "accepts a finite number");
  const std::string config = project() / "nan_file.textproto";
  WriteText(config, "optimizer { learning_rate: nan }");
  const ProgramResult result = RunIsthmus("train --config " + config, 2);
  EXPECT_EQ(result.exit_status, 2) << result.out;
  EXPECT_EQ(result.Count("optimizer.learning_rate: nan"), 1) << result.out;
}

TEST_F(BadInput, WorldThatDoesNotFitTheMeshIsRejected) {
  ExpectTrainFails("mesh", "--set mesh.tensor=3", "does not divide the 2 ranks that were started");
  ExpectTrainFails("mesh2", "--set mesh.tensor=2 --set mesh.data=4", "start 8");
}

// srun without --mpi=pmix starts them like this: each would train the whole run alone, into the same folder.
TEST_F(BadInput, TasksOfSlurmThatMpiDoesNotKnowOfAreRejected) {
  const std::string config = project().WriteConfig("slurm");
  const ProgramResult result =
      RunShell(absl::StrCat("SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=2 ", ProgramPath(), " train --config ", config));
  EXPECT_EQ(result.exit_status, 2) << result.out;
  EXPECT_EQ(result.Count("start with `srun --mpi=pmix`"), 1) << result.out;
  EXPECT_FALSE(std::filesystem::exists(project() / "slurm"));
}

TEST_F(BadInput, MissingShardsAreNamed) {
  ExpectTrainFails("shards", "--set data.train=/nowhere/tokens", "/nowhere/tokens");
  std::filesystem::create_directories(project() / "empty");
  ExpectTrainFails("shards2", "--set data.train=" + (project() / "empty"), "no token shards (.ids) in this folder");
}

TEST_F(BadInput, SequenceLongerThanAShardIsRejected) {
  ExpectTrainFails("long", "--set data.sequence_length=10000000", "data.sequence_length: 10000000");
}

// The last shard that `tokenizer encode` writes may be so short.
TEST_F(BadInput, AShardShorterThanASequenceIsPassedOver) {
  const std::string folder = project() / "with_short";
  WriteText(project() / "short.txt", "the cat\n");
  ASSERT_EQ(RunIsthmus(absl::StrCat("tokenizer encode --tokenizer ", project() / "tokenizer.model", " --out ", folder,
                                    " ", project() / "short.txt"))
                .exit_status,
            0);
  std::filesystem::copy_file(project() / "tokens/train/00000.ids", folder + "/train/00001.ids");
  const std::string train = absl::StrCat("train --config ", project().WriteConfig("plain"), " --set schedule.steps=3");
  ASSERT_EQ(RunIsthmus(train).exit_status, 0);
  const ProgramResult result =
      RunIsthmus(absl::StrCat(train, " --set folder=", project() / "short", " --set data.train=", folder, "/train"));
  EXPECT_EQ(result.exit_status, 0) << result.out;
  EXPECT_EQ(result.Count("1 of the training shards have no more tokens than a sequence"), 1) << result.out;
  EXPECT_EQ(Losses(project() / "short"), Losses(project() / "plain"));
  const ProgramResult inspected = RunIsthmus(absl::StrCat("data inspect --sequence-length 32 ", folder, "/train"));
  EXPECT_EQ(inspected.Count("; too short for a sample of 32: training passes over it"), 1) << inspected.out;
  EXPECT_EQ(inspected.Count(" samples of 32\n"), 1) << inspected.out;
  ExpectTrainFails("no_validation", absl::StrCat("--set data.validation=", folder, "/train/00000.ids"),
                   "a larger --validation-fraction");
}

TEST_F(BadInput, TruncatedForeignAndDamagedShardsAreRejected) {
  const std::string good = ReadText(project() / "tokens/train/00000.ids");
  const auto with = [&](const std::string& name, const std::string& contents) {
    WriteText(project() / (name + ".ids"), contents);
    return "--set data.train=" + (project() / (name + ".ids"));
  };
  ExpectTrainFails("truncated", with("truncated", good.substr(0, good.size() - 100)), "it is truncated");
  ExpectTrainFails("short", with("short", good.substr(0, 50)), "fewer than a token shard's header");
  ExpectTrainFails("nothing", with("nothing", ""), "fewer than a token shard's header");
  ExpectTrainFails("foreign", with("foreign", std::string(5000, 'x')), "is not a token shard");
  std::string damaged = good;
  damaged[damaged.size() / 2] = static_cast<char>(damaged[damaged.size() / 2] ^ 1);
  ExpectTrainFails("damaged", with("damaged", damaged), "checksum is wrong");
  std::string header = good;
  header[16] = static_cast<char>(header[16] ^ 1);
  ExpectTrainFails("header", with("header", header), "header's checksum is wrong");
}

TEST_F(BadInput, TokenThatIsNotBelowTheVocabularyIsFoundWhileTraining) {
  // The checksum is not looked at, as for corpora too large to read at every start.
  std::string shard = ReadText(project() / "tokens/train/00000.ids");
  for (size_t i = 128; i < 4096; ++i) shard[i] = static_cast<char>(0xFF);
  WriteText(project() / "tokens.ids", shard);
  ExpectTrainFails("token", "--set data.verify=false --set data.train=" + (project() / "tokens.ids"),
                   "not below the vocabulary of 300");
}

TEST_F(BadInput, ATokenThatIsFoundLateCostsNothingThatWasTrained) {
  std::string shard = ReadText(project() / "tokens/train/00000.ids");
  const size_t place = shard.size() - 12000;
  shard[place] = shard[place + 1] = static_cast<char>(0xFF);
  WriteText(project() / "late.ids", shard);
  const std::string arguments =
      absl::StrCat("train --config ", project().WriteConfig("late"), " --set data.train=", project() / "late.ids",
                   " --set data.verify=false --set schedule.steps=1000 --set "
                   "telemetry.validation_interval=0 --set telemetry.interval=0");
  const ProgramResult result = RunIsthmus(arguments, 2);
  EXPECT_EQ(result.exit_status, 2) << result.out;
  EXPECT_EQ(result.Count("not below the vocabulary of 300"), 1) << result.out;
  const int64_t steps = static_cast<int64_t>(Losses(project() / "late").size());
  EXPECT_GT(steps, 5);
  const std::string checkpoint = absl::StrFormat("%s/checkpoints/step-%08d", project() / "late", steps);
  EXPECT_EQ(
      result.Count(absl::StrCat("; training ended after step ", steps, "; the newest checkpoint is ", checkpoint)), 1)
      << result.out;
  EXPECT_EQ(RunIsthmus("checkpoint verify " + checkpoint).exit_status, 0);
}

TEST_F(BadInput, TokenizerOfOtherShardsIsRejected) {
  const std::string other = project() / "other.model";
  ASSERT_EQ(RunIsthmus(absl::StrCat("tokenizer train --vocabulary 320 --out ", other, " ", project() / "corpus.jsonl"))
                .exit_status,
            0);
  ExpectTrainFails("tokenizer", "--set data.tokenizer=" + other, "is not the tokenizer that");
  ExpectTrainFails("tokenizer2", "--set data.tokenizer=" + (project() / "corpus.jsonl"),
                   "is not a SentencePiece model");
}

TEST_F(BadInput, TheSameTextMakesTheSameTokenizerAndShardsOnAnyNumberOfCores) {
  std::vector<std::string> made;
  for (const char* threads : {"1", "3"}) {
    const std::string model = project() / absl::StrCat("threads-", threads, ".model"),
                      tokens = project() / absl::StrCat("threads-", threads);
    const ProgramResult result = RunShell(absl::StrCat(
        "export OMP_NUM_THREADS=", threads, "; ", ProgramPath(), " tokenizer train --vocabulary 300 --out ", model, " ",
        project() / "corpus.jsonl", " && ", ProgramPath(), " tokenizer encode --tokenizer ", model, " --out ", tokens,
        " ", project() / "corpus.jsonl"));
    ASSERT_EQ(result.exit_status, 0) << result.out;
    made.push_back(ReadText(model) + ReadText(tokens + "/train/00000.ids"));
  }
  EXPECT_TRUE(made[0] == made[1]);
}

TEST_F(BadInput, EmptyCorpusMakesNoVocabularyAndNoShards) {
  WriteText(project() / "empty.txt", "");
  WriteText(project() / "blank.jsonl", "\n\n{\"text\": \"\"}\n");
  for (const char* file : {"empty.txt", "blank.jsonl"}) {
    ExpectFails(absl::StrCat("tokenizer train --out ", project() / "no.model", " ", project() / file),
                "the corpus is empty");
    ExpectFails(absl::StrCat("tokenizer encode --tokenizer ", project() / "tokenizer.model", " --out ",
                             project() / "no_tokens", " ", project() / file),
                "the corpus is empty");
  }
  EXPECT_FALSE(std::filesystem::exists(project() / "no.model"));
  EXPECT_FALSE(std::filesystem::exists(project() / "no_tokens"));
}

TEST_F(BadInput, TextThatCannotBeReadIsNamedWithItsLine) {
  const auto encode = [&](const std::string& name, const std::string& contents) {
    WriteText(project() / name, contents);
    return absl::StrCat("tokenizer encode --tokenizer ", project() / "tokenizer.model", " --out ", project() / "x", " ",
                        project() / name);
  };
  ExpectFails(encode("broken.jsonl", "{\"text\": \"a\"}\n{\"text\": \n"), "broken.jsonl:2: is not a JSON object");
  ExpectFails(encode("field.jsonl", "{\"content\": \"a\"}\n"), "field.jsonl:1: has no string field \"text\"");
  ExpectFails(encode("latin.txt",
                     "fa\xE7"
                     "ade\n"),
              "latin.txt:1: the text is not UTF-8");
  ExpectFails(encode("cut.txt.gz", std::string("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xcb", 11)),
              "damaged or truncated gzip data");
  ExpectFails(encode("cut.txt.zst", std::string("\x28\xb5\x2f\xfd\x04", 5)), "Zstandard data");
  // Depth costs no stack, because nothing but the field is kept.
  ExpectFails(encode("deep.jsonl", std::string(1'000'000, '[') + "\n"), "deep.jsonl:1: is not a JSON object");
  ExpectFails(encode("deep2.jsonl", "{\"a\": " + std::string(1'000'000, '[') + std::string(1'000'000, ']') + "}\n"),
              "deep2.jsonl:1: has no string field");
  ExpectFails(encode("bytes.jsonl",
                     "{\"text\": \"fa\xE7"
                     "ade\"}\n"),
              "bytes.jsonl:1: the text is not UTF-8");
  ExpectFails(encode("table.csv", "a,b\n"), "accepted are files that end in .txt or .jsonl");
  ExpectFails("tokenizer encode --tokenizer " + (project() / "tokenizer.model") + " --out " + (project() / "x") +
                  " /nowhere/text.txt",
              "/nowhere/text.txt: can");
  EXPECT_FALSE(std::filesystem::exists(project() / "x"));
}

TEST_F(BadInput, ShardsThatExistAreNotOverwritten) {
  const std::string before = ReadText(project() / "tokens/train/00000.ids");
  ExpectFails(absl::StrCat("tokenizer encode --tokenizer ", project() / "tokenizer.model", " --out ",
                           project() / "tokens", " ", project() / "corpus.jsonl"),
              "is not empty");
  EXPECT_EQ(ReadText(project() / "tokens/train/00000.ids"), before);
}

TEST_F(BadInput, FolderThatCannotBeWrittenIsNamed) {
  WriteText(project() / "file", "not a folder");
  ExpectTrainFails("unwritable", "--set folder=" + (project() / "file/run"), "file/run: can");
  // Root may write anywhere but where the kernel says no.
  ExpectTrainFails("permission", "--set folder=/proc/other", "/proc/other: can");
}

// The disk of this test is a small file system of its own; to mount one takes root.
TEST_F(BadInput, FullDiskLeavesWhatWasThereAndNoHalfFiles) {
  const std::string disk = project() / "disk";
  std::filesystem::create_directories(disk);
  if (geteuid() != 0 || mount("isthmus-test", disk.c_str(), "tmpfs", 0, "size=256k") != 0) {
    GTEST_SKIP() << "needs root and the right to mount a small tmpfs";
  }
  WriteText(disk + "/precious", "kept");
  ExpectFails(absl::StrCat("tokenizer encode --tokenizer ", project() / "tokenizer.model", " --out ", disk, "/tokens ",
                           project() / "corpus.jsonl", " ", project() / "corpus.jsonl", " ", project() / "corpus.jsonl",
                           " ", project() / "corpus.jsonl"),
              "No space left on device");
  EXPECT_FALSE(std::filesystem::exists(disk + "/tokens"));
  // Training itself fits; its weights do not.
  ExpectTrainFails("full", absl::StrCat("--set folder=", disk, "/run --set model.width=256 --set schedule.steps=2"),
                   "No space left on device");
  EXPECT_FALSE(std::filesystem::exists(disk + "/run/checkpoints/step-00000002"));
  EXPECT_EQ(ReadText(disk + "/precious"), "kept");
  umount2(disk.c_str(), MNT_DETACH);
}

TEST_F(BadInput, DivergedTrainingEndsWithStatusThreeOnAllRanks) {
  ExpectTrainFails("diverged",
                   "--set optimizer.learning_rate=1e30 --set optimizer.clip_norm=0 --set schedule.warmup_steps=0 --set "
                   "schedule.steps=200",
                   "training diverged", 3);
}

TEST_F(BadInput, CheckpointsThatAreDamagedOrForeignAreRejected) {
  const std::string config = project().WriteConfig("good");
  ASSERT_EQ(RunIsthmus("train --config " + config + " --set schedule.steps=2").exit_status, 0);
  const std::string checkpoint = project() / "good/checkpoints/step-00000002";
  const std::string weights = ReadText(checkpoint + "/rank-0000.tensors"),
                    manifest = ReadText(checkpoint + "/manifest.pb");
  const std::string sample = "sample --checkpoint " + checkpoint + " --prompt a --tokens 2";
  ASSERT_EQ(RunIsthmus(sample).exit_status, 0);
  std::string damaged = weights;
  damaged[1000] = static_cast<char>(damaged[1000] ^ 4);
  WriteText(checkpoint + "/rank-0000.tensors", damaged);
  ExpectFails(sample, "the checksum is wrong");
  WriteText(checkpoint + "/rank-0000.tensors", weights.substr(0, weights.size() / 2));
  ExpectFails(sample, "truncated");
  std::filesystem::remove(checkpoint + "/rank-0000.tensors");
  ExpectFails(sample, "rank-0000.tensors: can");
  WriteText(checkpoint + "/rank-0000.tensors", weights);
  WriteText(checkpoint + "/manifest.pb", manifest.substr(0, manifest.size() - 1));
  ExpectFails(sample, "damaged or truncated");
  WriteText(checkpoint + "/manifest.pb", "something else, and long enough for a header");
  ExpectFails(sample, "is not the manifest of a checkpoint");
  WriteText(checkpoint + "/manifest.pb", manifest);
  // Vocabularies of 2^24 tokens are as large.
  WriteText(project() / "large.model", "");
  std::filesystem::resize_file(project() / "large.model", (1 << 28) + 1);
  ExpectFails(sample + " --tokenizer " + (project() / "large.model"), "is not a SentencePiece model");
  std::filesystem::remove(project() / "large.model");
  // A path that a user gives may be a pipe. One in the checkpoint's folder would keep a reader waiting.
  const std::string pipe = project() / "pipe.model", stored = checkpoint + "/tokenizer.model";
  const ProgramResult piped = RunShell(absl::StrCat("mkfifo ", pipe, "; cat ", project() / "tokenizer.model", " > ",
                                                    pipe, " & ", ProgramPath(), " ", sample, " --tokenizer ", pipe));
  EXPECT_EQ(piped.exit_status, 0) << piped.out;
  std::filesystem::remove(stored);
  std::filesystem::rename(pipe, stored);
  ExpectFails(sample, "tokenizer.model: is a pipe, a device or a socket, not a file");
  std::filesystem::remove(stored);
  std::filesystem::copy_file(project() / "tokenizer.model", stored);
  // None of these is a checkpoint.
  for (const std::string& other :
       {project() / "tokenizer.model", checkpoint + "/manifest.pb", std::string("/dev/null")}) {
    for (const char* command : {"sample --prompt a --checkpoint ", "checkpoint verify ", "checkpoint show "}) {
      ExpectFails(command + other, other +
                                       ": is not a folder; give a checkpoint (a folder with manifest.pb), a run "
                                       "folder, or checkpoints/latest");
    }
  }
  EXPECT_EQ(RunIsthmus(sample + " --temperature -1").exit_status, 2);
  EXPECT_EQ(RunIsthmus(sample + " --top-p 0").exit_status, 2);
  EXPECT_EQ(RunIsthmus(sample + " --top-k -1").exit_status, 2);
  EXPECT_EQ(RunIsthmus(sample + " --tokens 0").exit_status, 2);
  EXPECT_EQ(RunIsthmus(sample, 3).exit_status, 2) << "three ranks can't share four heads";
  EXPECT_EQ(RunIsthmus(sample).exit_status, 0);
}

TEST_F(BadInput, CommandsNameWhatTheyAccept) {
  EXPECT_EQ(RunIsthmus("").exit_status, 2);
  EXPECT_EQ(RunIsthmus("fly").Count("unknown command \"fly\""), 1);
  ExpectFails("tokenizer fly", "accepts train, encode or cluster");
  ExpectFails("data fly", "accepts inspect");
  ExpectFails("train", "--config FILE is missing");
  ExpectFails("tokenizer train --out", "--out needs a value");
  ExpectFails("tokenizer train --vocabulary many --out x y", "--vocabulary: found \"many\"");
  ExpectFails(absl::StrCat("tokenizer train --vocabulary 10 --out ", project() / "x", " ", project() / "corpus.jsonl"),
              "--vocabulary: 10");
  for (const char* command : {"--help", "train --help", "sample --help", "tokenizer train --help",
                              "tokenizer encode --help", "data inspect --help"}) {
    const ProgramResult help = RunIsthmus(command);
    EXPECT_EQ(help.exit_status, 0) << command;
    EXPECT_EQ(help.Count("usage: "), 1) << command;
  }
}

}  // namespace
}  // namespace isthmus::testing
