#include "launch/run/seen_symbols.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/data/batch_loader.h"

namespace isthmus {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kSymbols = 200, kSequences = 6;

std::shared_ptr<const SpamLang> Symbols() {
  return std::make_shared<const SpamLang>(
      SpamLangShape{.symbols = kSymbols, .vocabulary = kSymbols + 3, .sequence_length = 2}, SpamLang::Use::kTraining);
}

// Reads the data as a run does, and takes each batch's symbols down by its number.
class Draws {
 public:
  Draws(uint64_t seed, const std::vector<int64_t>& pass_over)
      : loader_(AllSamples(Symbols()), {.sequences = kSequences, .seed = seed, .pass_over = pass_over}) {}

  // Returns the number of the next batch, and adds its symbols if it is trained on.
  int64_t Next(bool trained, std::vector<bool>& seen) {
    const auto batch = loader_.Next();
    EXPECT_TRUE(batch.ok());
    for (const int32_t token : batch->target_values) {
      if (trained) seen[static_cast<size_t>(token)] = true;
    }
    return batch->number;
  }

 private:
  BatchLoader loader_;
};

double ShareOf(const std::vector<bool>& seen) {
  double count = 0;
  for (const bool one : seen) count += one ? 1 : 0;
  return count / static_cast<double>(seen.size());
}

TEST(SeenSymbols, AreThoseOfTheTrainedBatchesAtAnyTime) {
  for (const uint64_t seed : {1, 9}) {
    Draws draws(seed, {1, 4, 5, 11});
    SeenSymbols seen(Symbols(), {.sequences = kSequences, .seed = seed});
    std::vector<bool> expected(kSymbols, false), all(kSymbols, false);
    int64_t steps = 0, number = 0;
    for (int i = 1; i <= 60; ++i) {
      const bool refused = i % 7 == 3;  // a step that was not applied
      number = draws.Next(!refused, expected);
      if (!refused) seen.Train(number);
      steps += refused ? 0 : 1;
      if (i % 4 != 0) continue;
      EXPECT_EQ(seen.Seen(), expected) << i;
      EXPECT_EQ(seen.SeenShare(), ShareOf(expected));
      EXPECT_EQ(seen.SequencesPerSymbol(), static_cast<double>(steps * kSequences) / kSymbols);
    }
    EXPECT_GT(seen.SeenShare(), 0.5);
    EXPECT_LT(seen.SeenShare(), 1);
    // All batches together have more symbols: what was passed over counts.
    Draws whole(seed, {});
    while (whole.Next(true, all) < number) {
    }
    EXPECT_GT(ShareOf(all), ShareOf(expected));
  }
}

TEST(SeenSymbols, GoOnAfterAResume) {
  SeenSymbols whole(Symbols(), {.sequences = kSequences, .seed = 5});
  std::vector<int64_t> trained = {2, 3, 6, 7, 8, 20, 21};
  for (const int64_t batch : trained) whole.Train(batch);
  // A checkpoint was made after batch 9 had been refused.
  SeenSymbols before(Symbols(), {.sequences = kSequences, .seed = 5});
  for (const int64_t batch : {2, 3, 6, 7, 8}) before.Train(batch);
  const std::vector<int64_t> untrained = before.Untrained(9);
  EXPECT_EQ(untrained, std::vector<int64_t>({1, 4, 5, 9}));
  SeenSymbols after(Symbols(), {.sequences = kSequences, .seed = 5, .batches = 9, .untrained = untrained});
  EXPECT_EQ(after.Seen(), before.Seen());
  for (const int64_t batch : {20, 21}) after.Train(batch);
  EXPECT_EQ(after.Seen(), whole.Seen());
  EXPECT_EQ(after.SequencesPerSymbol(), whole.SequencesPerSymbol());
  EXPECT_EQ(after.Untrained(22), whole.Untrained(22));
  // The batches that were passed over matter.
  SeenSymbols forgetful(Symbols(), {.sequences = kSequences, .seed = 5, .batches = 9});
  for (const int64_t batch : {20, 21}) forgetful.Train(batch);
  EXPECT_NE(forgetful.Seen(), whole.Seen());
}

TEST(SeenSymbols, NoneAtTheBeginning) {
  SeenSymbols seen(Symbols(), {.sequences = kSequences});
  EXPECT_EQ(seen.SeenShare(), 0);
  EXPECT_EQ(seen.SequencesPerSymbol(), 0);
  EXPECT_TRUE(seen.Untrained(0).empty());
}

// A run may be far longer than it takes to see all symbols; nothing is drawn then.
TEST(SeenSymbols, AllAreSeenInTheEnd) {
  SeenSymbols seen(Symbols(), {.sequences = kSequences, .batches = int64_t{1} << 50});
  EXPECT_EQ(seen.SeenShare(), 1);
}

TEST(SeenSymbols, AManifestThatCanNotBeIsRefused) {
  struct Case {
    std::vector<int64_t> untrained;
    const char* said;
  };
  for (const auto& [untrained, said] :
       {Case{{2, 5}, ""}, Case{{2}, "untrained_batches: 1; accepted: 2 of them, for 10 batches and 8 steps"},
        Case{{5, 2}, "untrained_batches: 2; accepted: 6 to 10"},
        Case{{2, 2}, "untrained_batches: 2; accepted: 3 to 10"},
        Case{{0, 2}, "untrained_batches: 0; accepted: 1 to 10"}, Case{{2, 11}, "untrained_batches: 11; accepted: 3"},
        Case{{2, 5, 6}, "untrained_batches: 3; accepted: 2 of them"}}) {
    proto::CheckpointManifest manifest;
    manifest.set_step(8);
    manifest.set_samples(10 * kSequences);
    manifest.mutable_untrained_batches()->Assign(untrained.begin(), untrained.end());
    const absl::Status status = CheckUntrained(manifest, kSequences, "folder");
    EXPECT_EQ(status.ok(), *said == '\0') << status;
    if (!status.ok()) {
      EXPECT_TRUE(absl::IsDataLoss(status));
    }
    EXPECT_THAT(std::string(status.message()), HasSubstr(said));
  }
}

}  // namespace
}  // namespace isthmus
