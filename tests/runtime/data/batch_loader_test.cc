#include "runtime/data/batch_loader.h"

#include <absl/cleanup/cleanup.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <iterator>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "runtime/data/sample_order.h"
#include "runtime/data/token_dataset.h"
#include "runtime/data/token_shard_writer.h"
#include "runtime/stop_signals.h"
#include "tests/support/no_threads.h"
#include "tests/support/program.h"

namespace isthmus {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryFolder;

TEST(SampleOrder, EveryCountIsPermuted) {
  for (const uint64_t count : {1, 2, 3, 4, 5, 7, 8, 63, 64, 65, 1000, 4099}) {
    std::set<uint64_t> seen;
    for (uint64_t i = 0; i < count; ++i) {
      const uint64_t at = PermutedIndex(i, count, 42, RandomPurpose::kSampleOrder, 0);
      ASSERT_LT(at, count);
      seen.insert(at);
    }
    EXPECT_EQ(seen.size(), count);
  }
}

TEST(SampleOrder, NeighboursAreSpreadEvenlyAndDependOnTheSeed) {
  // The displacement of consecutive places: a permutation that only shifts or swaps would concentrate it.
  constexpr uint64_t kCount = 10007;
  std::map<uint64_t, int> bins;
  int same = 0;
  for (uint64_t i = 0; i + 1 < kCount; ++i) {
    const uint64_t a = SampleAt(i, kCount, 1), b = SampleAt(i + 1, kCount, 1);
    ++bins[(b + kCount - a) % kCount * 16 / kCount];
    same += a == SampleAt(i, kCount, 2);
  }
  for (const auto& [bin, count] : bins) EXPECT_NEAR(count, kCount / 16.0, 130) << bin;
  EXPECT_LT(same, 10);
}

TEST(SampleOrder, EpochsVisitEverySampleOnceInDifferentOrders) {
  constexpr uint64_t kCount = 100;
  std::vector<uint64_t> first, second;
  for (uint64_t i = 0; i < kCount; ++i) {
    first.push_back(SampleAt(i, kCount, 7));
    second.push_back(SampleAt(kCount + i, kCount, 7));
  }
  EXPECT_NE(first, second);
  std::sort(first.begin(), first.end());
  std::sort(second.begin(), second.end());
  EXPECT_EQ(first, second);
}

// Two shards whose token at place i of shard s is a function of both.
class Loader : public ::testing::Test {
 protected:
  static constexpr int64_t kLength = 5;
  void SetUp() override {
    for (int s = 0; s < 2; ++s) {
      auto writer = TokenShardWriter::Create(folder_ / ("0" + std::to_string(s) + ".ids"), 1000, 9);
      std::vector<int32_t> tokens;
      for (int i = 0; i < (s == 0 ? 53 : 36); ++i) tokens.push_back(s * 500 + i);
      ASSERT_TRUE((*writer)->AddDocument(tokens).ok());
      ASSERT_TRUE((*writer)->Finish().ok());
    }
    const auto dataset = TokenDataset::Open({folder_.path()}, kLength);
    ASSERT_TRUE(dataset.ok()) << dataset.status();
    dataset_ = *dataset;
  }
  // Returns all batches of `steps` steps, over the data ranks in order.
  std::vector<int32_t> Read(int data_ranks, int64_t first_step, int64_t steps, uint64_t seed = 3) {
    std::vector<std::unique_ptr<BatchLoader>> loaders;
    for (int rank = 0; rank < data_ranks; ++rank) {
      loaders.push_back(std::make_unique<BatchLoader>(
          AllSamples(dataset_),
          BatchLoaderOptions{
              .sequences = 4, .data_rank = rank, .data_ranks = data_ranks, .seed = seed, .first_batch = first_step}));
    }
    std::vector<int32_t> all;
    for (int64_t step = first_step; step < first_step + steps; ++step) {
      for (auto& loader : loaders) {
        auto batch = loader->Next();
        EXPECT_TRUE(batch.ok());
        EXPECT_EQ(batch->number, step);
        for (size_t i = 0; i < batch->id_values.size(); ++i) {
          EXPECT_EQ(batch->target_values[i], batch->id_values[i] + 1);
        }
        all.insert(all.end(), batch->id_values.begin(), batch->id_values.end());
        loader->Recycle(*std::move(batch));
      }
    }
    return all;
  }
  TemporaryFolder folder_;
  std::shared_ptr<const TokenDataset> dataset_;
};

TEST_F(Loader, BatchesThatArePassedOverAreLeftOutAndNothingElseChanges) {
  const std::vector<int32_t> all = Read(1, 1, 8);
  const size_t size = all.size() / 8;
  BatchLoader loader(AllSamples(dataset_), {.sequences = 4, .seed = 3, .first_batch = 2, .pass_over = {6, 1, 3, 4, 6}});
  for (const int64_t number : {2, 5, 7, 8}) {
    const auto batch = loader.Next();
    ASSERT_TRUE(batch.ok()) << batch.status();
    EXPECT_EQ(batch->number, number);
    const auto begin = all.begin() + static_cast<std::ptrdiff_t>(size) * (number - 1);
    EXPECT_EQ(batch->id_values, std::vector<int32_t>(begin, begin + static_cast<std::ptrdiff_t>(size)));
  }
}

TEST_F(Loader, WithoutAThreadTheBatchesAreTheSame) {
  const BatchLoaderOptions options{.sequences = 4, .seed = 3, .first_batch = 2, .pass_over = {2, 4}};
  BatchLoader threaded(AllSamples(dataset_), options);
  EXPECT_TRUE(threaded.reads_ahead());
  const testing::NoThreads no_threads;
  BatchLoader alone(AllSamples(dataset_), options);
  EXPECT_FALSE(alone.reads_ahead());
  for (const int64_t number : {3, 5, 6}) {
    auto expected = threaded.Next(), batch = alone.Next();
    ASSERT_TRUE(batch.ok()) << batch.status();
    EXPECT_EQ(batch->number, number);
    EXPECT_EQ(batch->id_values, expected->id_values);
    EXPECT_EQ(batch->target_values, expected->target_values);
    alone.Recycle(*std::move(batch));
  }
}

TEST_F(Loader, ABatchThatMemoryCannotHoldIsAnErrorOfItsRead) {
  const BatchLoaderOptions options{.sequences = int64_t{1} << 59};
  for (const bool threads : {true, false}) {
    std::optional<testing::NoThreads> none;
    if (!threads) none.emplace();
    BatchLoader loader(AllSamples(dataset_), options);
    EXPECT_EQ(loader.Next().status().code(), absl::StatusCode::kResourceExhausted);
  }
}

TEST_F(Loader, SamplesStayWithinTheirShardAndCoverIt) {
  EXPECT_EQ(dataset_->samples(), 10 + 7);
  std::vector<int32_t> tokens(kLength + 1);
  for (int64_t s = 0; s < dataset_->samples(); ++s) {
    ASSERT_TRUE(dataset_->Read(s, absl::MakeSpan(tokens)).ok());
    const int64_t first = s < 10 ? s * kLength : 500 + (s - 10) * kLength;
    for (size_t i = 0; i < tokens.size(); ++i) EXPECT_EQ(tokens[i], first + static_cast<int64_t>(i));
  }
}

TEST_F(Loader, BatchesAreTheSameForEveryNumberOfDataRanks) {
  const auto one = Read(1, 1, 12);
  EXPECT_EQ(one, Read(2, 1, 12));
  EXPECT_EQ(one, Read(4, 1, 12));
  EXPECT_NE(one, Read(1, 1, 12, 4));
}

TEST_F(Loader, AnEpochVisitsEverySampleOnce) {
  // 17 steps of 4 are 4 epochs of 17 samples.
  std::map<int32_t, int> visits;
  for (const int32_t token : Read(1, 1, 17)) ++visits[token];
  EXPECT_EQ(visits.size(), 17u * kLength);
  for (const auto& [token, count] : visits) EXPECT_EQ(count, 4) << token;
}

TEST_F(Loader, StartsAtAnyStepAsIfItHadReadTheOthers) {
  const auto all = Read(2, 1, 10), rest = Read(2, 7, 4);
  EXPECT_EQ(std::vector<int32_t>(all.begin() + 6 * 4 * kLength, all.end()), rest);
}

TEST_F(Loader, SplitKeepsTrainingAndValidationApart) {
  const auto split = SplitSamples(dataset_, 0.3);
  ASSERT_TRUE(split.ok());
  EXPECT_EQ(split->validation.count, 5);
  std::set<int64_t> seen;
  for (const SampleSet* set : {&split->training, &split->validation}) {
    for (int64_t i = 0; i < set->count; ++i) seen.insert(set->Sample(i));
  }
  EXPECT_EQ(seen.size(), 17u);
  EXPECT_EQ(SplitSamples(dataset_, 0.0001)->validation.count, 1);
  EXPECT_EQ(SplitSamples(dataset_, 0.9999)->training.count, 1);
}

TEST_F(Loader, ASequenceThatFitsNoShardIsNamedWithTheRange) {
  const auto dataset = TokenDataset::Open({folder_.path()}, 53);
  ASSERT_FALSE(dataset.ok());
  EXPECT_THAT(std::string(dataset.status().message()), HasSubstr("data.sequence_length: 53"));
  EXPECT_THAT(std::string(dataset.status().message()), HasSubstr("accepts 1 to 52"));
  EXPECT_EQ((*TokenDataset::Open({folder_.path()}, 52))->samples(), 1);
}

TEST_F(Loader, ShardsThatAreTooShortGiveNoSampleAndChangeNoOther) {
  const std::vector<int32_t> before = Read(1, 1, 12);
  // Adds shards before, between and behind the others: an empty one, one token, and one token less than a sample needs.
  for (const auto& [name, tokens] : {std::pair<std::string, int>{"000.ids", 0}, {"005.ids", 1}, {"02.ids", 5}}) {
    auto writer = TokenShardWriter::Create(folder_ / name, 1000, 9);
    if (tokens > 0) {
      ASSERT_TRUE((*writer)->AddDocument(std::vector<int32_t>(static_cast<size_t>(tokens), 999)).ok());
    }
    ASSERT_TRUE((*writer)->Finish().ok());
  }
  const auto dataset = TokenDataset::Open({folder_.path()}, kLength);
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  dataset_ = *dataset;
  EXPECT_EQ(dataset_->samples(), 10 + 7);
  EXPECT_EQ(dataset_->shards_without_samples(), 3);
  EXPECT_EQ(Read(1, 1, 12), before);
  EXPECT_THAT(std::string(TokenDataset::Open({folder_ / "000.ids"}, kLength).status().message()),
              HasSubstr("are empty"));
}

TEST_F(Loader, ASignalEndsTheCheckOfItsShards) {
  const StopSignals signals;
  EXPECT_TRUE(dataset_->VerifyChecksums(signals).ok());
  ASSERT_EQ(kill(getpid(), SIGTERM), 0);
  while (signals.received() == 0) std::this_thread::yield();
  const absl::Status stopped = dataset_->VerifyChecksums(signals);
  EXPECT_TRUE(absl::IsCancelled(stopped)) << stopped;
  EXPECT_EQ(std::string(stopped.message()), "stopped by SIGTERM before all of " + folder_ / "00.ids" + " was read");
}

// Shards of a sample each, more than stay open. Only the last one's tokens are not zero.
void MakeManyShards(const TemporaryFolder& folder) {
  for (int s = 0; s < 300; ++s) {
    const std::string path = folder / std::to_string(1000 + s) + ".ids";
    if (s > 0 && s < 299) {
      std::filesystem::copy_file(folder / "1000.ids", path);
      continue;
    }
    auto writer = TokenShardWriter::Create(path, 1000, 9);
    ASSERT_TRUE((*writer)->AddDocument(std::vector<int32_t>{s, s, s}).ok());
    ASSERT_TRUE((*writer)->Finish().ok());
  }
}

TEST_F(Loader, ManyShardsAreRead) {
  const TemporaryFolder folder;
  MakeManyShards(folder);
  const auto dataset = TokenDataset::Open({folder.path()}, 2);
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  std::vector<int32_t> tokens(3);
  for (int64_t s = 0; s < 300; ++s) {
    ASSERT_TRUE((*dataset)->Read(s, absl::MakeSpan(tokens)).ok());
    EXPECT_EQ(tokens[2], s < 299 ? 0 : 299);
  }
}

TEST_F(Loader, TwoDataSetsLeaveHalfOfTheFilesThatMayBeOpen) {
  const TemporaryFolder folder;
  MakeManyShards(folder);
  const auto open_files = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), std::filesystem::directory_iterator());
  };
  rlimit limit{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  const absl::Cleanup restore = [&limit] { setrlimit(RLIMIT_NOFILE, &limit); };
  const rlimit few = {128, limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  const auto before = open_files();
  const auto training = TokenDataset::Open({folder.path()}, 2), validation = TokenDataset::Open({folder.path()}, 2);
  ASSERT_TRUE(training.ok()) << training.status();
  ASSERT_TRUE(validation.ok()) << validation.status();
  EXPECT_LE(open_files() - before, 64);
  std::vector<int32_t> tokens(3);
  for (const int64_t s : {0, 31, 32, 299}) {
    ASSERT_TRUE((*training)->Read(s, absl::MakeSpan(tokens)).ok());
    EXPECT_EQ(tokens[2], s < 299 ? 0 : 299);
  }
}

TEST_F(Loader, ShardsOfDifferentTokenizersAreRejected) {
  auto writer = TokenShardWriter::Create(folder_ / "02.ids", 1000, 10);
  ASSERT_TRUE((*writer)->AddDocument(std::vector<int32_t>(100, 1)).ok());
  ASSERT_TRUE((*writer)->Finish().ok());
  const auto dataset = TokenDataset::Open({folder_.path()}, kLength);
  ASSERT_FALSE(dataset.ok());
  EXPECT_THAT(std::string(dataset.status().message()), HasSubstr("different tokenizers"));
}

}  // namespace
}  // namespace isthmus
