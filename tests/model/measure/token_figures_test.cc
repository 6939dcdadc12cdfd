#include "model/measure/token_figures.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "model/algebra/matrix.h"
#include "model/measure/logit_gradient.h"
#include "ops/loss_form.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {
namespace {

// Two of four tokens are sampled: one whose target has a probability of a quarter, one that is predicted with
// certainty.
TokenSums SumsOfTwo() {
  TokenSums sums;
  sums.Add({.loss = std::log(4.0), .energy = 0.75, .retained_energy = 0.75 / 64, .retained_at_target = -0.0625}, 0.25,
           {});
  sums.Add({}, 0.25, {});
  return sums;
}

TEST(TokenSums, AreOfTheMeanLoss) {
  const TokenSums sums = SumsOfTwo();
  EXPECT_DOUBLE_EQ(sums.loss, std::log(4.0) / 4);
  EXPECT_DOUBLE_EQ(sums.target_sum, -0.75 / 4);  // p - 1
  EXPECT_DOUBLE_EQ(sums.target_energy, 0.75 * 0.75 / 16);
  EXPECT_DOUBLE_EQ(sums.retained_energy, 0.75 / 64);
  EXPECT_DOUBLE_EQ(sums.retained_target_sum, -0.0625);
  EXPECT_DOUBLE_EQ(sums.retained_target_energy, 0.0625 * 0.0625);
  EXPECT_EQ(sums.sampled_retained, 0);
}

// z'_y is 3 and the log-sum-exp 3 + log 4, so that p_y is a quarter.
TEST(TokenSums, OfACapAndAZLossHaveTheirGradientAtTheTarget) {
  const double log_sum_exp = 3 + std::log(4.0);
  TokenSums sums;
  sums.Add({.loss = std::log(4.0), .log_sum_exp = log_sum_exp}, 0.5, {.soft_cap = 5, .z_loss = 0.1});
  const double expected = 0.5 * (1 - 9.0 / 25) * (0.25 * (1 + 2 * 0.1 * log_sum_exp) - 1);
  EXPECT_NEAR(sums.target_sum, expected, 1e-15);
  EXPECT_NEAR(sums.target_energy, expected * expected, 1e-15);
  EXPECT_DOUBLE_EQ(sums.loss, 0.5 * std::log(4.0));
}

TEST(TokenSums, ATokenWithoutAGradientRetainsNothing) {
  const TokenSums sums = SumsOfTwo();
  // The first one keeps a quarter of its energy, which is half of its norm.
  EXPECT_DOUBLE_EQ(sums.retained_ratio.sum, 0.5);
  EXPECT_EQ(sums.retained_ratio.counts.front(), 1);
  EXPECT_DOUBLE_EQ(sums.token_gradient.sum, std::sqrt(0.75));
}

// The softmax is computed separately, in long double, for three tokens and five rows of the vocabulary. The middle
// three rows are formed.
void ExpectLogitGradient(const LossForm& form) {
  const isthmus::Matrix input{{1, -2}, {0.5, 3}, {0, 0}}, head{{2, 1}, {-1, 0.5}, {0, 3}, {1, 1}, {-2, -1}};
  const std::vector<int32_t> targets = {2, 0, 3};
  isthmus::Matrix logits = input * head.transpose(), slopes = isthmus::Matrix::Ones(3, 5);
  if (form.soft_cap > 0) {
    slopes = (logits.array() / form.soft_cap).cosh().square().inverse();
    logits = form.soft_cap * (logits.array() / form.soft_cap).tanh();
  }
  isthmus::Matrix loss(1, 3), log_sum_exp(1, 3), expected(3, 5);
  for (int n = 0; n < 3; ++n) {
    long double sum = 0;
    for (int v = 0; v < 5; ++v) sum += std::exp(static_cast<long double>(logits(n, v)));
    const int target = targets[static_cast<size_t>(n)];
    log_sum_exp(0, n) = static_cast<double>(std::log(sum));
    loss(0, n) = static_cast<double>(std::log(sum) - logits(n, target));
    for (int v = 0; v < 5; ++v) {
      const long double p = std::exp(static_cast<long double>(logits(n, v))) / sum;
      expected(n, v) =
          static_cast<double>(slopes(n, v) * ((1 + 2 * form.z_loss * std::log(sum)) * p - (v == target)) / 3);
    }
  }
  const LogitGradientTokens tokens = {.input = TensorOf(input),
                                      .targets = ConstTensor(targets.data(), DType::kInt32, 1, 3),
                                      .loss = TensorOf(loss),
                                      .log_sum_exp = TensorOf(log_sum_exp),
                                      .form = form,
                                      .scale = 1.0 / 3};
  isthmus::Matrix found(3, 3);
  Stream stream;
  ASSERT_TRUE(FormLogitGradient(tokens, {TensorOf(head).RowSlice(1, 3), {}}, 1, TensorOf(found), stream).ok());
  EXPECT_LT((found - expected.middleCols(1, 3)).cwiseAbs().maxCoeff(), 1e-15);

  // The same logits from a head that is scaled by 2⁻⁶⁰.
  const isthmus::Matrix small = std::ldexp(1.0, -60) * head;
  LogitGradientTokens scaled = tokens;
  scaled.exponent = 60;
  ASSERT_TRUE(FormLogitGradient(scaled, {TensorOf(small).RowSlice(1, 3), {}}, 1, TensorOf(found), stream).ok());
  EXPECT_LT((found - expected.middleCols(1, 3)).cwiseAbs().maxCoeff(), 1e-15);
}

TEST(LogitGradient, OfSomeRowsIsThatOfTheWholeVocabulary) {
  for (const double soft_cap : {0.0, 2.5}) {
    for (const double z_loss : {0.0, 0.2}) ExpectLogitGradient({.soft_cap = soft_cap, .z_loss = z_loss});
  }
}

}  // namespace
}  // namespace isthmus
