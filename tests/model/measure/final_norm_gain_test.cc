// The gain of the final norm may be counted to the hidden states or to the head: what the head passes on is the same.
#include <gtest/gtest.h>

#include <cmath>

#include "model/algebra/matrix.h"
#include "model/measure/tensor_decomposition.h"
#include "parallel/communicator.h"
#include "runtime/philox.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

constexpr int64_t kGainTokens = 40, kGainRows = 61, kGainWidth = 7;

Matrix DrawnForGain(int64_t rows, uint32_t stream) {
  Matrix matrix(rows, kGainWidth);
  for (int64_t i = 0; i < matrix.size(); ++i) {
    matrix.data()[i] = Philox::Normal(5, RandomPurpose::kTest, stream, static_cast<uint64_t>(i));
  }
  return matrix;
}

// Decomposes normalised states and a head with the gain in one of them.
proto::HeadRecord FiguresWithGain(const Eigen::VectorXd& gain, bool folded) {
  Matrix hidden = DrawnForGain(kGainTokens, 0), head = DrawnForGain(kGainRows, 1);
  (folded ? head : hidden) *= gain.asDiagonal();
  std::vector<int32_t> targets;
  for (int64_t i = 0; i < kGainTokens; ++i) targets.push_back(static_cast<int32_t>(11 * i % kGainRows));
  HeadTensors tensors;
  tensors.tokens = kGainTokens;
  tensors.vocabulary = kGainRows;
  tensors.shards = {{0, kGainRows}};
  tensors.weights = {TensorOf(head)};
  tensors.parts = {{TensorOf(hidden), ConstTensor(targets.data(), DType::kInt32, 1, kGainTokens)}};
  const std::vector<uint64_t> counts(kGainRows, 1);
  tensors.counts = counts;
  const auto self = MakeSelfCommunicator();
  const auto figures = DecomposeTensors(tensors, *self, *self);
  EXPECT_TRUE(figures.ok()) << figures.status();
  return figures.ok() ? figures->scalars : proto::HeadRecord();
}

TEST(FinalNormGain, FoldedIntoTheHeadLeavesWhatItPassesOn) {
  Eigen::VectorXd gain(kGainWidth);
  gain << 0.03, 1, -2, 0.5, 4, 1.3, -0.2;
  const proto::HeadRecord apart = FiguresWithGain(gain, false), folded = FiguresWithGain(gain, true);
  EXPECT_NEAR(folded.visible_cosine(), apart.visible_cosine(), 1e-10);
  EXPECT_NEAR(folded.lost_norm_ratio(), apart.lost_norm_ratio(), 1e-10);
  EXPECT_NEAR(folded.alignment_gain(), apart.alignment_gain(), 1e-10);
  EXPECT_EQ(folded.numerical_rank(), apart.numerical_rank());
  // The gradient that arrives does depend on it.
  EXPECT_GT(std::abs(folded.hidden_update_cosine() - apart.hidden_update_cosine()), 1e-3);

  // Without one of the features the head spans less, but not if only the hidden states lack it.
  gain(2) = 0;
  const proto::HeadRecord without = FiguresWithGain(gain, true), idle = FiguresWithGain(gain, false);
  EXPECT_EQ(without.numerical_rank(), kGainWidth - 1);
  EXPECT_EQ(idle.numerical_rank(), kGainWidth);
  EXPECT_GT(std::abs(without.visible_cosine() - idle.visible_cosine()), 1e-3);
}

}  // namespace
}  // namespace isthmus::testing
