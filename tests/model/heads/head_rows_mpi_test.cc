// ranks: 1 2 6
// Tests of what the rows of a head may have: model.head.bias and model.head.row_scale.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "model/algebra/matrix.h"
#include "model/heads/heads.h"
#include "model/heads/row_values.h"
#include "tests/support/head_pass.h"
#include "tests/support/mpi_world.h"
#include "tests/support/part_checks.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;

constexpr double kExactly = 1e-10;

std::vector<TinyOptions> HeadsOfRows(const std::string& head) {
  TinyOptions full = PartOptions();
  full.head = head;
  TinyOptions tied = full, factorised = full;
  tied.tied = true;
  factorised.head_rank = 9;
  if (head.find("row_scale") != std::string::npos) return SomeOf(std::vector{full, factorised});
  return SomeOf(std::vector{full, tied, factorised});
}

double DistanceOf(const Matrix& found, const Matrix& expected) { return (found - expected).norm() / expected.norm(); }

Eigen::VectorXd CountsOf(const TinyOptions& options) {
  const std::vector<uint64_t> counts = TinyCounts(options);
  Eigen::VectorXd values(static_cast<Eigen::Index>(counts.size()));
  for (size_t i = 0; i < counts.size(); ++i) values(static_cast<Eigen::Index>(i)) = static_cast<double>(counts[i]);
  return values;
}

Eigen::VectorXd FactorsOf(const TinyOptions& options, double exponent) {
  const Eigen::VectorXd powers = (CountsOf(options).array() + 1).pow(exponent);
  return powers / std::sqrt(powers.squaredNorm() / static_cast<double>(powers.size()));
}

// Returns the sum of the tokens' losses without the z-loss.
double CrossEntropyOf(const HeadPass& pass, double cap = 0) {
  const Matrix logits = cap == 0 ? pass.logits : Matrix(cap * (pass.logits.array() / cap).tanh());
  double loss = logits.array().exp().rowwise().sum().log().sum();
  for (Eigen::Index n = 0; n < logits.rows(); ++n) loss -= logits(n, pass.targets[static_cast<size_t>(n)]);
  return loss;
}

TEST(RowValues, AreThoseOfTheCounts) {
  const RowValues shares = LogShares({0, 2, 4}, 3), powers = PowersOfCounts({0, 3, 8}, 3, 0.5);
  ASSERT_TRUE(shares != nullptr && powers != nullptr);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_DOUBLE_EQ((*shares)[i], std::log(static_cast<double>(2 * i + 1) / 9));
    EXPECT_DOUBLE_EQ((*powers)[i], static_cast<double>(i + 1) / std::sqrt(14.0 / 3));
  }
  EXPECT_EQ(LogShares({}, 3), nullptr);
  EXPECT_EQ(PowersOfCounts({}, 3, 1), nullptr);
}

TEST(HeadBias, BeginsAsTheLogarithmOfTheShares) {
  for (const TinyOptions& head : HeadsOfRows("bias: true")) {
    SCOPED_TRACE(head.Name());
    HeadPass pass(head);
    const Eigen::VectorXd counts = CountsOf(head).array() + 1;
    const Eigen::VectorXd expected = (counts / counts.sum()).array().log();
    EXPECT_LT(DistanceOf(pass.Weight("head.bias"), expected), 1e-14);
    EXPECT_EQ(pass.bias, Eigen::VectorXd(pass.Weight("head.bias")));
  }
}

TEST(HeadBias, LossAndGradientsFollowTheFormulas) {
  for (const char* more : {"", " soft_cap: 6 z_loss: 0.1"}) {
    for (const TinyOptions& head : HeadsOfRows(std::string("bias: true") + more)) {
      SCOPED_TRACE(head.Name());
      HeadPass pass(head);
      const double loss = CrossEntropyOf(pass, TinyConfig(head).model().head().soft_cap());
      EXPECT_NEAR(pass.sums.loss, loss, kExactly * loss);
      const double energy = pass.gradient.squaredNorm() / (pass.scale * pass.scale);
      EXPECT_NEAR(pass.sums.energy[0], energy, kExactly * energy);
      EXPECT_LT(DistanceOf(pass.Gradient("head.bias"), pass.gradient.colwise().sum().transpose()), kExactly);
      EXPECT_LT(DistanceOf(pass.passed, pass.gradient * pass.weight), kExactly);
      const Matrix input =
          head.head_rank > 0 ? Matrix(pass.hidden * pass.Weight("head.down.weight").transpose()) : pass.hidden;
      EXPECT_LT(DistanceOf(pass.WeightGradient(), pass.gradient.transpose() * input), kExactly);
      // Without the bias G is another one.
      TinyOptions plain = head;
      plain.head = more;
      HeadPass without(plain);
      EXPECT_GT(DistanceOf(without.gradient, pass.gradient), 1e-2);
    }
  }
}

TEST(HeadRowScale, LossAndGradientsFollowTheFormulas) {
  for (const double exponent : {-0.3, 0.25}) {
    for (const TinyOptions& head : HeadsOfRows("row_scale: " + std::to_string(exponent))) {
      SCOPED_TRACE(head.Name());
      HeadPass pass(head);
      const Eigen::VectorXd factors = FactorsOf(head, exponent);
      EXPECT_NEAR(factors.squaredNorm(), static_cast<double>(factors.size()), 1e-9);
      EXPECT_LT(DistanceOf(pass.Weight("head.row_scale"), factors), 1e-14);
      const bool factorised = head.head_rank > 0;
      const Matrix own = pass.Weight(factorised ? "head.up.weight" : "head.weight");
      EXPECT_LT(DistanceOf(pass.up, factors.asDiagonal() * own), 1e-14);
      EXPECT_GT(DistanceOf(pass.up, own), 0.1);
      const double loss = CrossEntropyOf(pass);
      EXPECT_NEAR(pass.sums.loss, loss, kExactly * loss);
      EXPECT_LT(DistanceOf(pass.passed, pass.gradient * pass.weight), kExactly);
      const Matrix down = factorised ? pass.Weight("head.down.weight") : Matrix();
      const Matrix input = factorised ? Matrix(pass.hidden * down.transpose()) : pass.hidden;
      const Matrix of_rows = pass.gradient.transpose() * input;
      EXPECT_LT(DistanceOf(pass.WeightGradient(), factors.asDiagonal() * of_rows), kExactly);
      if (factorised) {
        EXPECT_LT(DistanceOf(pass.Gradient("head.down.weight"),
                             pass.up.transpose() * pass.gradient.transpose() * pass.hidden),
                  kExactly);
      }
      EXPECT_EQ(pass.Gradient("head.row_scale").norm(), 0);
      const auto view = pass.model().loss().View();
      ASSERT_TRUE(view.ok());
      EXPECT_LT(DistanceOf(MatrixOf(view->gradient), of_rows), kExactly);
    }
  }
}

const char* const kRowOptions[] = {"bias: true", "row_scale: -0.3",
                                   "bias: true row_scale: 0.2 soft_cap: 6 z_loss: 0.1"};

TEST(HeadRows, GradientsMatchFiniteDifferences) {
  for (const char* rows : kRowOptions) {
    for (const TinyOptions& head : HeadsOfRows(rows)) EXPECT_LT(WorstGradientError(head), 1e-6) << head.Name();
  }
}

TEST(HeadRows, PlansMeshesCheckpointsAndFiguresHold) {
  for (const char* rows : kRowOptions) {
    for (const TinyOptions& head : HeadsOfRows(rows)) {
      SCOPED_TRACE(head.Name());
      ExpectSameTrainingOnEveryMesh(head);
      ExpectPlannedMemory(head);
      ExpectStatedProducts(head);
      ExpectPlannedCalls(head);
      ExpectResumeOnEveryMesh(head);
      ExpectSameFiguresOnEveryMesh(head);
    }
  }
}

// A bias is no part of W, so that every hook takes it. Factors need hooks that leave the gradient of U alone.
TEST(HeadRows, HooksOnTheHeadWorkWithThem) {
  for (const char* hooks : {"backward { kind: 'preconditioned' match_norm: false }",
                            "backward { kind: 'rank' rank: 5 }", "backward { kind: 'random' }",
                            "backward { kind: 'dense_feedback' }", "bias: true orthogonality: 0.3 alignment: 0.7",
                            "bias: true weight_gradient { kind: 'visible' match_norm: true }",
                            "bias: true weight_gradient { kind: 'lost' }"}) {
    TinyOptions options = PartOptions();
    const bool has_bias = std::string(hooks).find("bias") != std::string::npos;
    options.head = (has_bias ? std::string() : "bias: true row_scale: -0.3 ") + hooks;
    SCOPED_TRACE(options.Name());
    ExpectSameTrainingOnEveryMesh(options);
    ExpectResumeOnEveryMesh(options);
    ExpectSameFiguresOnEveryMesh(options);
  }
}

// The best matrix of a rank, by way of which the gradient goes back, is that of W = diag(s) U.
TEST(HeadRowScale, WhatGoesBackIsOfTheScaledRows) {
  TinyOptions options = PartOptions();
  options.head = "row_scale: -0.3 backward { kind: 'rank' rank: 5 }";
  HeadPass pass(options);
  const Eigen::BDCSVD<Eigen::MatrixXd> svd(pass.weight, Eigen::ComputeThinU | Eigen::ComputeThinV);
  const Matrix best =
      svd.matrixU().leftCols(5) * svd.singularValues().head(5).asDiagonal() * svd.matrixV().leftCols(5).transpose();
  EXPECT_LT(DistanceOf(pass.passed, pass.gradient * best), 1e-9);
}

TEST(HeadRows, MomentumIsPossibleWithAllOptimizersAndFactorsStay) {
  for (const char* optimizer :
       {"kind: 'adamw'", "kind: 'amsgrad'", "kind: 'sgd' learning_rate: 0.1",
        "kind: 'muon' groups { name: 'others' parameters: ['*norm*', 'embedding.*', 'head.bias', 'head.row_scale'] "
        "kind: 'adamw' }"}) {
    for (TinyOptions options : HeadsOfRows("bias: true row_scale: -0.3")) {
      for (const auto precision : {proto::PrecisionConfig::FP64, proto::PrecisionConfig::BF16}) {
        options.optimizer = optimizer;
        options.precision = precision;
        SCOPED_TRACE(options.Name());
        Replica replica(options);
        const auto values = [&](const char* name) {
          const Tensor tensor = replica.model().parameters().Weight(name);
          std::vector<double> found;
          for (int64_t i = 0; i < tensor.size(); ++i) found.push_back(ElementOf(tensor, i));
          return found;
        };
        const auto factors = values("head.row_scale"), bias = values("head.bias");
        for (int64_t step = 1; step <= 3; ++step) replica.Step(step, step == 2);
        EXPECT_EQ(values("head.row_scale"), factors);
        EXPECT_NE(values("head.bias"), bias);
      }
    }
  }
}

// The bias has no weight decay: a step of sgd without momentum moves it by its gradient alone.
TEST(HeadBias, HasNoWeightDecay) {
  TinyOptions options = PartOptions();
  options.head = "bias: true";
  options.optimizer = "kind: 'sgd' beta1: 0 weight_decay: 0.5 clip_norm: 0";
  Replica replica(options);
  const Tensor bias = replica.model().parameters().Weight("head.bias");
  const Matrix before = MatrixOf(bias);
  replica.Step(1);
  const Matrix moved = MatrixOf(bias) - before, gradient = MatrixOf(replica.model().parameters().Gradient("head.bias"));
  EXPECT_NEAR(-moved.cwiseProduct(gradient).sum() / (moved.norm() * gradient.norm()), 1, 1e-9);
}

// Weights change between training and reading, and back.
TEST(HeadRows, EvaluationSeesTheWeightsOfNow) {
  std::vector<TinyOptions> heads = HeadsOfRows("bias: true");
  for (const TinyOptions& head : HeadsOfRows("row_scale: -0.3")) heads.push_back(head);
  for (const TinyOptions& head : heads) {
    SCOPED_TRACE(head.Name());
    Replica replica(head), undisturbed(head);
    TokenBatch batch = MakeBatch(head, 1);
    const auto evaluate = [&](Replica& of) {
      return of.model().Evaluate(PartOf(batch.ids, 0, 1), PartOf(batch.targets, 0, 1)).value();
    };
    const double before = evaluate(replica);
    EXPECT_NEAR(replica.Step(1).loss, before, 1e-12);
    const double after = evaluate(replica);
    EXPECT_LT(after, before - 1e-3);
    EXPECT_EQ(evaluate(replica), after);
    undisturbed.Step(1);
    for (int64_t step = 2; step <= 4; ++step) {
      EXPECT_EQ(replica.Step(step).loss, undisturbed.Step(step).loss);
      evaluate(replica);
    }
  }
}

TEST(HeadRows, WithoutOptionsTrainThePlainBits) {
  for (TinyOptions head : HeadsOfRows("")) {
    for (const auto precision :
         {proto::PrecisionConfig::FP64, proto::PrecisionConfig::FP32, proto::PrecisionConfig::BF16}) {
      head.precision = precision;
      const auto train = [&](const char* rows) {
        head.head = rows;
        Replica replica(head);
        std::vector<double> losses;
        for (int64_t step = 1; step <= 3; ++step) losses.push_back(replica.Step(step, step == 2).loss);
        return losses;
      };
      SCOPED_TRACE(head.Name());
      const std::vector<double> plain = train("");
      EXPECT_EQ(train("bias: false row_scale: 0"), plain);
      EXPECT_NE(train("bias: true"), plain);
    }
  }
}

TEST(HeadRows, PrecisionsAgree) {
  for (const char* rows : kRowOptions) {
    for (TinyOptions options : HeadsOfRows(rows)) {
      options.tensor = World().size();
      if (options.tensor > 3) continue;
      SCOPED_TRACE(options.Name());
      options.precision = proto::PrecisionConfig::FP64;
      Replica exact(options, &World());
      std::vector<StepWithFigures> expected;
      for (int64_t step = 1; step <= 3; ++step) expected.push_back(exact.Step(step, step == 2));
      for (const auto& [precision, tolerance] :
           {std::pair(proto::PrecisionConfig::FP32, 1e-4), std::pair(proto::PrecisionConfig::BF16, 1e-2)}) {
        options.precision = precision;
        Replica narrow(options, &World());
        for (int64_t step = 1; step <= 3; ++step) {
          const StepWithFigures found = narrow.Step(step, step == 2);
          const StepWithFigures& wanted = expected[static_cast<size_t>(step - 1)];
          EXPECT_NEAR(found.loss, wanted.loss, tolerance * wanted.loss) << step;
          if (step != 2) continue;
          EXPECT_NEAR(found.head->scalars.logit_gradient_norm() / wanted.head->scalars.logit_gradient_norm(), 1,
                      2 * tolerance);
          EXPECT_NEAR(found.head->scalars.visible_cosine(), wanted.head->scalars.visible_cosine(), 2 * tolerance);
        }
      }
    }
  }
}

TEST(HeadRows, WrongSettingsAreRefused) {
  proto::ModelConfig full = TinyConfig(PartOptions()).model();
  const auto refusal = [](proto::ModelConfig config, bool bias, double exponent) {
    config.mutable_head()->set_bias(bias);
    config.mutable_head()->set_row_scale(exponent);
    return std::string(CheckHead(config, "here").message());
  };
  EXPECT_EQ(refusal(full, true, -0.5), "");
  EXPECT_EQ(refusal(full, false, 1), "");
  constexpr double kInfinity = std::numeric_limits<double>::infinity(), kNaN = std::numeric_limits<double>::quiet_NaN();
  for (const double exponent : {-1.01, 2.0, 1e300, kInfinity, -kInfinity, kNaN}) {
    EXPECT_THAT(refusal(full, false, exponent), HasSubstr("here: model.head.row_scale: ")) << exponent;
    EXPECT_THAT(refusal(full, false, exponent), HasSubstr("; accepts 0 (none) and exponents from -1 to 1"));
  }
  proto::ModelConfig tied = full;
  tied.set_tied_embeddings(true);
  tied.mutable_head()->set_kind("tied");
  EXPECT_EQ(refusal(tied, true, 0), "");
  EXPECT_THAT(refusal(tied, false, 0.5), HasSubstr("accepts 0 with tied embeddings"));
  for (const char* kind : {"sampled", "cluster", "hierarchical"}) {
    proto::ModelConfig other = full;
    other.mutable_head()->set_kind(kind);
    if (std::string(kind) == "sampled") other.mutable_head()->add_sampled()->set_classes(50);
    if (std::string(kind) != "sampled") {
      other.mutable_head()->mutable_clusters()->set_kind("random");
      other.mutable_head()->mutable_clusters()->set_count(7);
    }
    EXPECT_EQ(refusal(other, false, 0), "") << kind;
    EXPECT_THAT(refusal(other, true, 0), HasSubstr(std::string("model.head.bias: true; a head of kind ") + kind));
    EXPECT_THAT(refusal(other, false, 0.5), HasSubstr(std::string("a head of kind ") + kind + " accepts 0"));
  }
  for (const char* changes : {"orthogonality", "alignment", "weight_gradient"}) {
    proto::ModelConfig hooked = full;
    if (std::string(changes) == "orthogonality") hooked.mutable_head()->set_orthogonality(0.1);
    if (std::string(changes) == "alignment") hooked.mutable_head()->set_alignment(0.1);
    if (std::string(changes) == "weight_gradient") hooked.mutable_head()->mutable_weight_gradient()->set_kind("lost");
    EXPECT_EQ(refusal(hooked, true, 0), "") << changes;
    EXPECT_THAT(refusal(hooked, false, 0.5), HasSubstr(std::string("accepts 0 with model.head.") + changes));
  }
}

}  // namespace
}  // namespace isthmus::testing
