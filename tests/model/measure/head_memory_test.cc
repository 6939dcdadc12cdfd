// Memory of the head and its loss does not grow with the tokens of a batch: no N×V matrix exists.
#include <gtest/gtest.h>

#include "model/model.h"
#include "model/train/training_model.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

constexpr int64_t kVocabulary = 50'257;
constexpr int64_t kChunk = 128;

int64_t HeadBytes(const TinyOptions& options, const Purpose& purpose) {
  Model model(TinyConfig(options), {.tensor_ranks = options.tensor}, Device::kCpu, purpose);
  return model.HeadLayout().bytes();
}

int64_t BytesOfHead(TinyOptions options, int64_t tokens) {
  options.vocabulary = kVocabulary;
  options.precision = proto::PrecisionConfig::FP32;
  return HeadBytes(options, {.training = true, .sequence_length = tokens, .loss_chunk = kChunk});
}

TEST(HeadMemory, DoesNotGrowWithTheTokens) {
  for (const TinyOptions& options : {TinyOptions{}, TinyOptions{.tied = true}, TinyOptions{.tensor = 4}}) {
    const int64_t few = BytesOfHead(options, 1024), many = BytesOfHead(options, 1024 * 1024);
    EXPECT_EQ(few, many) << options.Name();
    EXPECT_GE(few, kChunk * (kVocabulary / options.tensor) * 4) << "the logits of one chunk are not in it";
    EXPECT_LT(few, 2 * kChunk * (kVocabulary / options.tensor + 1) * 4);
  }
}

// The measurement keeps a few numbers of each token of a micro-batch, and of each vocabulary row. With bf16 weights it
// also keeps the token's row of A in fp32, and this tensor rank's part of the summed one.
TEST(HeadMemory, OfMeasuringHoldsNeitherLogitsNorHiddenStatesOfAllTokens) {
  using proto::PrecisionConfig;
  for (TinyOptions options :
       {TinyOptions{.precision = PrecisionConfig::FP32}, TinyOptions{.tensor = 4, .precision = PrecisionConfig::FP32},
        TinyOptions{.head_rank = 5, .precision = PrecisionConfig::FP32},
        TinyOptions{.precision = PrecisionConfig::BF16},
        TinyOptions{.tensor = 4, .precision = PrecisionConfig::BF16}}) {
    options.vocabulary = kVocabulary;
    const int64_t copies = options.precision == PrecisionConfig::FP32 ? 0
                           : options.tensor == 1                      ? 1
                                                                      : options.tensor + 1;
    const auto bytes = [&](int64_t sequences) {
      options.sequences = sequences;
      return HeadDecomposition::Layout(MeasurementShape::Of(TinyConfig(options), 0, Device::kCpu)).bytes();
    };
    constexpr int64_t kFew = 1024, kMany = 64 * 1024;  // both more tokens than are projected at once
    const int64_t tokens = (kMany - kFew) * options.sequence_length;
    const int64_t growth = bytes(kMany) - bytes(kFew);
    EXPECT_GT(growth, 0);
    EXPECT_LE(growth, tokens * (2 * 4 + 8 * options.tensor + 5 * 8 + 4 * options.width * copies / options.tensor))
        << options.Name();
    EXPECT_LT(bytes(kFew), kFew * options.sequence_length * kVocabulary / 8);
  }
}

// A factorised head keeps the input of its second factor: R numbers per token, not V.
TEST(HeadMemory, OfAFactorisedHeadGrowsWithTheRankAlone) {
  constexpr int64_t kRank = 5, kFew = 1024, kMany = 4096;
  const TinyOptions options = {.head_rank = kRank};
  const int64_t growth = BytesOfHead(options, kMany) - BytesOfHead(options, kFew);
  EXPECT_GT(growth, 0);
  EXPECT_LE(growth, 2 * (kMany - kFew) * kRank * 4 + 256);
}

// A training model holds for its head, at two token counts, the memory that HeadLayout states.
TEST(HeadMemory, OfATrainingModelIsTheSameAtTwoTokenCounts) {
  const auto held = [](int64_t sequences) {
    TinyOptions options;
    options.sequences = sequences;
    options.loss_chunk = 16;
    Replica replica(options);
    const int64_t expected = HeadBytes(
        options,
        {.training = true, .sequence_length = sequences * options.sequence_length, .loss_chunk = options.loss_chunk});
    EXPECT_EQ(replica.model().memory().head, expected);
    EXPECT_GT(replica.model().memory().activations, 0);
    return replica.model().memory().head;
  };
  EXPECT_EQ(held(4), held(64));
}

}  // namespace
}  // namespace isthmus::testing
