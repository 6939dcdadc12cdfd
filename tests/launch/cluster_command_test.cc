// `isthmus tokenizer cluster`.
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <string>
#include <vector>

#include "runtime/data/bigram_counts.h"
#include "runtime/data/class_bigram.h"
#include "runtime/data/equal_clusters.h"
#include "runtime/data/frequency_clusters.h"
#include "runtime/data/token_cluster_file.h"
#include "runtime/data/token_dataset.h"
#include "tests/support/class_language.h"
#include "tests/support/paths.h"
#include "tests/support/program.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kWords = 240, kClasses = 12;

class ClusterCommand : public ::testing::Test {
 protected:
  void SetUp() override {
    const ClassLanguage language(kWords, kClasses, 1);
    classes_ = InOrderOfAppearance(language.class_of());
    std::filesystem::create_directory(folder_ / "tokens");
    for (uint64_t shard = 0; shard < 3; ++shard) {
      std::vector<std::vector<int32_t>> documents;
      for (uint64_t i = 0; i < 20; ++i) documents.push_back(language.Text(5'000, shard * 20 + i));
      WriteShard(folder_ / absl::StrCat("tokens/", shard, ".ids"), kWords, documents);
    }
  }
  // Returns the command with these options, over all shards.
  std::string Command(const std::string& options) const {
    return absl::StrCat("tokenizer cluster ", options, " ", folder_ / "tokens");
  }
  void ExpectRefused(const std::string& arguments, const std::string& message) const {
    const ProgramResult result = RunIsthmus(arguments);
    EXPECT_EQ(result.exit_status, 2) << result.out;
    EXPECT_THAT(result.out, HasSubstr(message));
  }

  TemporaryFolder folder_;
  std::string out_ = folder_ / "clusters.npy";
  std::vector<int32_t> classes_;
};

TEST_F(ClusterCommand, FindsTheClassesAndSaysHowMuchTheyExplain) {
  const ProgramResult result = RunIsthmus(Command(absl::StrCat("--clusters 12 --out ", out_)));
  ASSERT_EQ(result.exit_status, 0) << result.out;
  EXPECT_THAT(result.out, HasSubstr(out_ + ": 12 clusters of 20 tokens\n"));
  const auto found = ReadTokenClusters(out_, kWords);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(InOrderOfAppearance(*found), classes_);
  // The figures are those of the library.
  const auto dataset = TokenDataset::Open({folder_ / "tokens"}, 1);
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  const auto bigrams = CountBigrams(**dataset, {});
  ASSERT_TRUE(bigrams.ok()) << bigrams.status();
  const ClassBigram model(*bigrams);
  const double alone = model.Loss(std::vector<int32_t>(kWords, 0), 1), ours = alone - model.Loss(*found, kClasses);
  const double random = alone - model.Loss(ShuffledClusters(kWords, kClasses, 1), kClasses);
  const double frequency = alone - model.Loss(FrequencyClusters(bigrams->training.RowSums(), kClasses, 1), kClasses);
  EXPECT_THAT(result.out, HasSubstr(absl::StrFormat("clusters explain %.4f of %.4f nats per token of held-out text; "
                                                    "random ones %.4f, clusters by frequency %.4f\n",
                                                    ours, alone, random, frequency)));
  EXPECT_GT(ours, random + 0.3);
  EXPECT_GT(ours, frequency + 0.3);
}

TEST_F(ClusterCommand, ThreadsChangeNoByteAndTheSeedChoosesTheSample) {
  const auto made = [&](const std::string& options, int threads) {
    const ProgramResult result =
        RunShell(absl::StrCat("OMP_NUM_THREADS=", threads, " ", ProgramPath(), " ", Command(options), " --out ", out_));
    EXPECT_EQ(result.exit_status, 0) << result.out;
    return ReadText(out_) + result.out;
  };
  const std::string sample = "--clusters 17 --tokens 20000 --seed ";
  EXPECT_EQ(made(sample + "1", 1), made(sample + "1", 3));
  EXPECT_NE(made(sample + "1", 1), made(sample + "2", 1));
}

TEST_F(ClusterCommand, OneClusterAndOneForEachTokenCanBeMade) {
  ASSERT_EQ(RunIsthmus(Command(absl::StrCat("--clusters 1 --out ", out_))).exit_status, 0);
  EXPECT_EQ(*ReadTokenClusters(out_, kWords), std::vector<int32_t>(kWords, 0));
  // A file that is there is written anew.
  const ProgramResult each = RunIsthmus(Command(absl::StrCat("--clusters 240 --out ", out_)));
  ASSERT_EQ(each.exit_status, 0) << each.out;
  EXPECT_EQ(ReadTokenClusters(out_, kWords).status(), absl::OkStatus());
  const ProgramResult uneven = RunIsthmus(Command(absl::StrCat("--clusters 7 --out ", out_)));
  EXPECT_THAT(uneven.out, HasSubstr(out_ + ": 7 clusters of 34 or 35 tokens\n"));
}

TEST_F(ClusterCommand, WhatIsImpossibleIsRefusedAndNothingIsWritten) {
  for (const char* clusters : {"0", "-3"}) {
    ExpectRefused(Command(absl::StrCat("--clusters ", clusters, " --out ", out_)),
                  absl::StrCat("--clusters: ", clusters, "; accepts 1 to the vocabulary"));
  }
  ExpectRefused(Command(absl::StrCat("--clusters 241 --out ", out_)), "has a vocabulary of 240; accepts 1 to 240");
  ExpectRefused(Command("--out " + out_), "--clusters N is missing");
  ExpectRefused(Command("--clusters 2"), "--out FILE is missing");
  for (const char* tokens : {"0", "-1", "4000000001"}) {
    ExpectRefused(Command(absl::StrCat("--clusters 2 --tokens ", tokens, " --out ", out_)),
                  absl::StrCat("--tokens: ", tokens, "; accepts 1 to 4000000000"));
  }
  const std::string two = absl::StrCat("tokenizer cluster --clusters 2 --out ", out_, " ");
  ExpectRefused(two + "/nowhere/x.ids", "/nowhere/x.ids: can't open the token shard");
  WriteShard(folder_ / "empty.ids", kWords, {});
  ExpectRefused(two + (folder_ / "empty.ids"), "the token shards are empty or have a single token");
  WriteShard(folder_ / "alone.ids", kWords, {{1}, {2}});
  ExpectRefused(two + (folder_ / "alone.ids"), "no token follows another in the documents that were read");
  WriteShard(folder_ / "other.ids", 7, {{1, 2, 3}});
  ExpectRefused(Command(absl::StrCat("--clusters 2 --out ", out_, " ", folder_ / "other.ids")),
                "were made with different tokenizers");
  std::string damaged = ReadText(folder_ / "tokens/0.ids");
  damaged[130] = damaged[131] = '\xff';
  WriteText(folder_ / "damaged.ids", damaged);
  ExpectRefused(two + (folder_ / "damaged.ids"), "token 1 is 65535, not below the vocabulary of 240");
  EXPECT_FALSE(std::filesystem::exists(out_));
  EXPECT_EQ(RunIsthmus("tokenizer cluster --help").Count("usage: "), 1);
}

TEST_F(ClusterCommand, SparesWhatItReadsAndRefusesAFolder) {
  const std::string shard = folder_ / "tokens/1.ids", before = ReadText(shard);
  ExpectRefused(Command("--clusters 2 --out " + shard), "is a file that is read (");
  EXPECT_TRUE(ReadText(shard) == before);
  ExpectRefused(Command("--clusters 2 --out " + folder_.path()), "is a folder; name a file");
}

TEST_F(ClusterCommand, GoesThroughAPipeWithoutMessages) {
  const std::string pipe = folder_ / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  ASSERT_EQ(RunIsthmus(Command(absl::StrCat("--clusters 5 --out ", out_))).exit_status, 0);
  const ProgramResult result =
      RunShell(absl::StrCat("cat ", pipe, " > ", folder_ / "copy", " & ", ProgramPath(), " ",
                            Command(absl::StrCat("--clusters 5 --out ", pipe)), " || { kill $!; exit 1; }; wait $!"));
  EXPECT_EQ(result.exit_status, 0) << result.out;
  EXPECT_TRUE(ReadText(folder_ / "copy") == ReadText(out_));
}

TEST_F(ClusterCommand, ATextTooSmallToJudgeIsSaid) {
  WriteShard(folder_ / "small.ids", kWords, {{1, 2, 3}});
  const ProgramResult result =
      RunIsthmus(absl::StrCat("tokenizer cluster --clusters 5 --out ", out_, " ", folder_ / "small.ids"));
  EXPECT_EQ(result.exit_status, 0) << result.out;
  EXPECT_EQ(result.Count("too few tokens to say how good the clusters are\n"), 1) << result.out;
  EXPECT_TRUE(ReadTokenClusters(out_, kWords).ok());
}

}  // namespace
}  // namespace isthmus::testing
