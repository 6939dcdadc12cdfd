// ranks: 1 2 4 6
// Tests of the head that expands the hidden state before the vocabulary's rows.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "model/algebra/matrix.h"
#include "model/heads/heads.h"
#include "tests/support/head_pass.h"
#include "tests/support/lone_head.h"
#include "tests/support/mpi_world.h"
#include "tests/support/one_rank.h"
#include "tests/support/part_checks.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

TinyOptions Expanded(int64_t times) {
  TinyOptions options = PartOptions();
  options.head_kind = "wide";
  options.head = "expansion: " + std::to_string(times);
  return options;
}

TEST(WideHead, WorksEverywhere) { CheckPart(Expanded(2)); }

TEST(WideHead, WorksWithOtherExpansions) {
  for (const int64_t times : {1, 3}) {
    const TinyOptions options = Expanded(times);
    EXPECT_LT(WorstGradientError(options), 1e-6) << options.Name();
    ExpectSameTrainingOnEveryMesh(options);
    ExpectPlannedMemory(options);
    ExpectStatedProducts(options);
  }
}

TEST(WideHead, MayHaveACapAndAZLoss) {
  TinyOptions options = Expanded(2);
  options.head += " soft_cap: 0.3 z_loss: 0.05";
  EXPECT_LT(WorstGradientError(options), 1e-6);
  ExpectSameTrainingOnEveryMesh(options);
  ExpectNarrowHeadsAgree(options);
}

// Four ranks share 101 rows unevenly.
TEST(WideHead, WorksOnFourTensorRanks) {
  if (World().size() != 4) GTEST_SKIP() << "needs 4 ranks";
  TinyOptions options = Expanded(2);
  options.heads = 4;
  options.sequence_length = 8;
  options.tensor = 4;
  std::vector<TinyOptions> meshes = {options, options};
  meshes[1].sequence_parallel = true;
  ExpectLossesOfOneRank(World(), meshes, 6, 1e-10);
}

// Loss and gradients on one rank by the formulas of all matrices. `silu_slope` is the derivative of silu; a wrong one
// must be noticed.
struct WideFormulas {
  WideFormulas(TrainPass& pass, const std::function<double(double)>& silu_slope);

  double loss = 0, energy = 0;
  Matrix grad_gate, grad_up, grad_weight, grad_hidden;
};

double Logistic(double x) { return 1 / (1 + std::exp(-x)); }
double SlopeOfSilu(double x) { return Logistic(x) * (1 + x * (1 - Logistic(x))); }

WideFormulas::WideFormulas(TrainPass& pass, const std::function<double(double)>& silu_slope) {
  const Matrix gate = pass.Weight("head.gate_proj.weight"), up = pass.Weight("head.up_proj.weight");
  const Matrix weight = pass.Weight("head.weight"), &h = pass.hidden;
  const Matrix a = h * gate.transpose(), b = h * up.transpose();
  const Matrix silu = a.unaryExpr([](double x) { return x * Logistic(x); });
  const Matrix f = silu.cwiseProduct(b);
  Matrix g = f * weight.transpose();
  for (Eigen::Index n = 0; n < g.rows(); ++n) {
    const double largest = g.row(n).maxCoeff();
    const double log_sum = largest + std::log((g.row(n).array() - largest).exp().sum());
    const Eigen::Index target = pass.targets[static_cast<size_t>(n)];
    loss += log_sum - g(n, target);
    g.row(n) = (g.row(n).array() - log_sum).exp();
    g(n, target) -= 1;
  }
  energy = g.squaredNorm();
  g *= pass.scale;
  const Matrix grad_f = g * weight;
  const Matrix grad_a = grad_f.cwiseProduct(b).cwiseProduct(a.unaryExpr(silu_slope));
  const Matrix grad_b = grad_f.cwiseProduct(silu);
  grad_gate = grad_a.transpose() * h;
  grad_up = grad_b.transpose() * h;
  grad_weight = g.transpose() * f;
  grad_hidden = grad_a * gate + grad_b * up;
}

bool IsNearFormula(const Matrix& found, const Matrix& formula) {
  return (found - formula).norm() <= 1e-10 * formula.norm();
}

TEST(WideHead, FollowsTheFormulas) {
  for (const int64_t times : {1, 2, 3}) {
    TrainPass pass(Expanded(times));
    const WideFormulas expected(pass, SlopeOfSilu);
    EXPECT_NEAR(pass.sums.loss, expected.loss, 1e-10 * expected.loss);
    ASSERT_EQ(pass.sums.energy.size(), 1u);
    EXPECT_NEAR(pass.sums.energy[0], expected.energy, 1e-10 * expected.energy);
    EXPECT_TRUE(IsNearFormula(pass.Gradient("head.gate_proj.weight"), expected.grad_gate));
    EXPECT_TRUE(IsNearFormula(pass.Gradient("head.up_proj.weight"), expected.grad_up));
    EXPECT_TRUE(IsNearFormula(pass.Gradient("head.weight"), expected.grad_weight));
    EXPECT_TRUE(IsNearFormula(pass.passed, expected.grad_hidden));
    // Without the gate's own share of the slope, two of them are others.
    const WideFormulas wrong(pass, Logistic);
    EXPECT_FALSE(IsNearFormula(pass.Gradient("head.gate_proj.weight"), wrong.grad_gate));
    EXPECT_FALSE(IsNearFormula(pass.passed, wrong.grad_hidden));
  }
}

TEST(WideHead, PrecisionsAgree) {
  for (const int64_t times : {1, 2}) ExpectNarrowHeadsAgree(Expanded(times));
}

// The variance over tokens and vocabulary of the first logits, by init_std² · D.
double FirstVariance(TinyOptions options) {
  options.width = 48;
  options.vocabulary = 2000;
  Replica replica(options);
  TrainingModel& model = replica.model();
  const Tensor hidden = model.backbone().hidden();
  TokenBatch batch = MakeBatch(options, 1);
  EXPECT_TRUE(model.backbone().Forward(PartOf(batch.ids, 0, 1)).ok());
  double sum = 0, count = 0;
  for (int64_t begin = 0; begin < hidden.rows; begin += options.loss_chunk) {
    const auto logits = model.loss().Logits(hidden.RowSlice(begin, std::min(options.loss_chunk, hidden.rows - begin)));
    EXPECT_TRUE(logits.ok()) << logits.status();
    sum += MatrixOf(*logits).squaredNorm();
    count += static_cast<double>(logits->rows * logits->columns);
  }
  const double deviation = TinyConfig(options).model().init_std();
  return sum / count / (deviation * deviation * static_cast<double>(options.width));
}

// Some dozens of features, of few kinds of tokens, are no large sample: hence a fifth.
TEST(WideHead, FirstLogitsHaveTheVarianceOfAFullHead) {
  EXPECT_NEAR(FirstVariance(PartOptions()), 1, 0.05);
  for (const int64_t times : {1, 2, 4}) EXPECT_NEAR(FirstVariance(Expanded(times)), 1, 0.2) << times;
}

TEST(WideHead, HasATitle) {
  EXPECT_EQ(HeadTitle(TinyConfig(Expanded(3)).model()), "head expanded 3-fold");
  proto::ModelConfig model;
  model.mutable_head()->set_kind("wide");
  EXPECT_EQ(HeadTitle(model), "head expanded 2-fold");
}

TEST(WideHead, WrongSettingsAreRefused) {
  const auto refusal = [](const std::string& head, bool tied = false) {
    TinyOptions options = PartOptions();
    options.head = head;
    options.tied = tied;
    return std::string(CheckHead(TinyConfig(options).model(), "here").message());
  };
  EXPECT_EQ(refusal("kind: 'wide'"), "");
  EXPECT_EQ(refusal("kind: 'wide' expansion: 64"), "");
  EXPECT_EQ(refusal("kind: 'wide' rank: 8"), "here: model.head.rank: 8; a head of kind wide accepts 0");
  EXPECT_EQ(
      refusal("kind: 'wide'", /*tied=*/true),
      "here: model.tied_embeddings: true; a head of kind wide has wider rows than the embedding table; set false");
  for (const char* found : {"0", "-1", "65", "9223372036854775807", "-9223372036854775808"}) {
    EXPECT_EQ(refusal(std::string("kind: 'wide' expansion: ") + found),
              std::string("here: model.head.expansion: ") + found + "; accepts 1 to 64");
  }
  EXPECT_EQ(
      refusal("expansion: 3"),
      "here: model.head.expansion: 3; model.head.kind is full, and only a head of kind wide has it; leave it unset");
  for (const char* hook :
       {"backward { kind: 'random' }", "weight_gradient { kind: 'lost' }", "orthogonality: 0.1", "alignment: 0.1"}) {
    EXPECT_EQ(refusal(std::string("kind: 'wide' ") + hook),
              "here: model.head.kind: wide; its logits are no product with a parameter, as model.head.backward, "
              "weight_gradient, orthogonality and alignment need it; set those to their defaults");
  }
}

}  // namespace
}  // namespace isthmus::testing
