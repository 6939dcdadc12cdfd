// Memory of the head and its loss does not grow with the tokens of a batch: no N×V matrix exists.
#include <gtest/gtest.h>

#include "model/head_loss.h"
#include "model/training_model.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

constexpr int64_t kVocabulary = 50'257;
constexpr int64_t kChunk = 128;

int64_t BytesOfHead(TinyOptions options, int64_t tokens) {
  options.vocabulary = kVocabulary;
  const ModelShape shape = ModelShape::From(TinyConfig(options).model());
  return HeadLoss::WorkspaceLayout(shape, TensorShard::Of(shape, 0, options.tensor), DType::kFloat32,
                                   {.tokens = tokens, .loss_chunk = kChunk})
      .bytes();
}

TEST(HeadMemory, DoesNotGrowWithTheTokens) {
  for (const TinyOptions& options : {TinyOptions{}, TinyOptions{.tied = true}, TinyOptions{.tensor = 4}}) {
    const int64_t few = BytesOfHead(options, 1024), many = BytesOfHead(options, 1024 * 1024);
    EXPECT_EQ(few, many) << options.Name();
    EXPECT_GE(few, kChunk * (kVocabulary / options.tensor) * 4) << "the logits of one chunk are not in it";
    EXPECT_LT(few, 2 * kChunk * (kVocabulary / options.tensor + 1) * 4);
  }
}

// A factorised head keeps what enters its second factor: R numbers per token, not V.
TEST(HeadMemory, OfAFactorisedHeadGrowsWithTheRankAlone) {
  constexpr int64_t kRank = 5, kFew = 1024, kMany = 4096;
  const TinyOptions options = {.head_rank = kRank};
  const int64_t growth = BytesOfHead(options, kMany) - BytesOfHead(options, kFew);
  EXPECT_GT(growth, 0);
  EXPECT_LE(growth, 2 * (kMany - kFew) * kRank * 4 + 256);
}

// What a training model holds for its head at two token counts is what WorkspaceLayout says.
TEST(HeadMemory, OfATrainingModelIsTheSameAtTwoTokenCounts) {
  const auto held = [](int64_t sequences) {
    TinyOptions options;
    options.sequences = sequences;
    options.loss_chunk = 16;
    Replica replica(options);
    const ModelShape shape = ModelShape::From(TinyConfig(options).model());
    const int64_t expected =
        HeadLoss::WorkspaceLayout(shape, TensorShard::Of(shape, 0, 1), DType::kFloat64,
                                  {.tokens = sequences * options.sequence_length, .loss_chunk = options.loss_chunk})
            .bytes();
    EXPECT_EQ(replica.model().memory().head, expected);
    EXPECT_GT(replica.model().memory().activations, 0);
    return replica.model().memory().head;
  };
  EXPECT_EQ(held(4), held(64));
}

}  // namespace
}  // namespace isthmus::testing
