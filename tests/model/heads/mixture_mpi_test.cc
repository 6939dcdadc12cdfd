// ranks: 1 2 4 6
// Tests of the head that is a mixture of softmaxes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "model/algebra/matrix.h"
#include "model/heads/heads.h"
#include "model/train/training_memory.h"
#include "tests/support/head_pass.h"
#include "tests/support/lone_head.h"
#include "tests/support/mpi_world.h"
#include "tests/support/one_rank.h"
#include "tests/support/part_checks.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

constexpr char kComponents[] = "head.component.weight", kPrior[] = "head.prior.weight", kRows[] = "head.weight";

TinyOptions MixtureOf(int64_t count) {
  TinyOptions options = PartOptions();
  options.head_kind = "mixture";
  options.head = "mixture { count: " + std::to_string(count) + " }";
  return options;
}

TEST(MixtureHead, WorksEverywhere) { CheckPart(MixtureOf(3)); }

// A chunk has ten rows of logits: those of two tokens, and of one.
TEST(MixtureHead, WorksWithOtherNumbersOfSoftmaxes) {
  for (const int64_t count : {4, 10}) {
    const TinyOptions options = MixtureOf(count);
    EXPECT_LT(WorstGradientError(options), 1e-6) << options.Name();
    ExpectSameTrainingOnEveryMesh(options);
    ExpectPlannedMemory(options);
    ExpectStatedProducts(options);
  }
}

// A chunk has as many rows as there are softmaxes, at least.
TEST(MixtureHead, TakesChunksOfFewerTokensThanSoftmaxes) {
  TinyOptions options = MixtureOf(5);
  Replica plain(options);
  options.loss_chunk = 1;
  ExpectPlannedMemory(options);
  Replica narrow(options);
  for (int64_t step = 1; step <= 3; ++step) {
    const double expected = plain.Step(step).loss;
    EXPECT_NEAR(narrow.Step(step).loss, expected, 1e-10 * expected) << step;
  }
}

TEST(MixtureHead, MayHaveACap) {
  TinyOptions options = MixtureOf(3);
  options.head += " soft_cap: 0.3";
  EXPECT_LT(WorstGradientError(options), 1e-6);
  ExpectSameTrainingOnEveryMesh(options);
  ExpectNarrowHeadsAgree(options);
}

// Four ranks share 101 rows unevenly.
TEST(MixtureHead, WorksOnFourTensorRanks) {
  if (World().size() != 4) GTEST_SKIP() << "needs 4 ranks";
  TinyOptions options = MixtureOf(3);
  options.heads = 4;
  options.sequence_length = 8;
  options.tensor = 4;
  std::vector<TinyOptions> meshes = {options, options};
  meshes[1].sequence_parallel = true;
  ExpectLossesOfOneRank(World(), meshes, 6, 1e-10);
}

// Loss and gradients on one rank by the formulas, from probabilities of all tokens. Without `posterior` a component's
// gradient has the prior in its place, which must be noticed.
struct MixtureFormulas {
  MixtureFormulas(TrainPass& pass, bool posterior);
  // Adds a token.
  void AddToken(Eigen::Index n, Eigen::Index target, bool posterior);

  const double scale;
  const Matrix components, prior, rows, hidden;
  Matrix grad_components, grad_prior, grad_rows, grad_hidden;
  double loss = 0, energy = 0;
};

Eigen::RowVectorXd Softmax(const Eigen::RowVectorXd& z) {
  const Eigen::RowVectorXd shifted = (z.array() - z.maxCoeff()).exp();
  return shifted / shifted.sum();
}

MixtureFormulas::MixtureFormulas(TrainPass& pass, bool posterior)
    : scale(pass.scale),
      components(pass.Weight(kComponents)),
      prior(pass.Weight(kPrior)),
      rows(pass.Weight(kRows)),
      hidden(pass.hidden),
      grad_components(Matrix::Zero(components.rows(), components.cols())),
      grad_prior(Matrix::Zero(prior.rows(), prior.cols())),
      grad_rows(Matrix::Zero(rows.rows(), rows.cols())),
      grad_hidden(Matrix::Zero(hidden.rows(), hidden.cols())) {
  for (Eigen::Index n = 0; n < hidden.rows(); ++n) AddToken(n, pass.targets[static_cast<size_t>(n)], posterior);
}

void MixtureFormulas::AddToken(Eigen::Index n, Eigen::Index target, bool posterior) {
  const Eigen::Index count = prior.rows(), width = hidden.cols();
  const Eigen::RowVectorXd h = hidden.row(n), pi = Softmax(h * prior.transpose());
  Matrix features(count, width), p(count, rows.rows());
  for (Eigen::Index k = 0; k < count; ++k) {
    features.row(k) = (h * components.middleRows(k * width, width).transpose()).array().tanh();
    p.row(k) = Softmax(features.row(k) * rows.transpose());
  }
  const double probability = pi * p.col(target);
  loss -= std::log(probability);
  const Eigen::RowVectorXd gamma = pi.cwiseProduct(p.col(target).transpose()) / probability;
  const Eigen::RowVectorXd grad_q = scale * (pi - gamma);
  grad_prior += grad_q.transpose() * h;
  grad_hidden.row(n) += grad_q * prior;
  for (Eigen::Index k = 0; k < count; ++k) {
    Eigen::RowVectorXd g = p.row(k);
    g(target) -= 1;
    energy += gamma(k) * gamma(k) * g.squaredNorm();
    g *= scale * (posterior ? gamma(k) : pi(k));
    grad_rows += g.transpose() * features.row(k);
    const Eigen::RowVectorXd slope = 1 - features.row(k).array().square();
    const Eigen::RowVectorXd down = (g * rows).cwiseProduct(slope);
    grad_components.middleRows(k * width, width) += down.transpose() * h;
    grad_hidden.row(n) += down * components.middleRows(k * width, width);
  }
}

bool FollowsFormula(const Matrix& found, const Matrix& formula) {
  return (found - formula).norm() <= 1e-10 * formula.norm();
}

TEST(MixtureHead, FollowsTheFormulas) {
  for (const int64_t count : {2, 3, 7}) {
    SCOPED_TRACE(count);
    TrainPass pass(MixtureOf(count));
    const MixtureFormulas expected(pass, /*posterior=*/true), wrong(pass, /*posterior=*/false);
    EXPECT_NEAR(pass.sums.loss, expected.loss, 1e-10 * expected.loss);
    ASSERT_EQ(pass.sums.energy.size(), 1u);
    EXPECT_NEAR(pass.sums.energy[0], expected.energy, 1e-10 * expected.energy);
    EXPECT_TRUE(FollowsFormula(pass.Gradient(kPrior), expected.grad_prior));
    EXPECT_TRUE(FollowsFormula(pass.Gradient(kComponents), expected.grad_components));
    EXPECT_TRUE(FollowsFormula(pass.Gradient(kRows), expected.grad_rows));
    EXPECT_TRUE(FollowsFormula(pass.passed, expected.grad_hidden));
    EXPECT_FALSE(FollowsFormula(pass.Gradient(kComponents), wrong.grad_components));
    EXPECT_FALSE(FollowsFormula(pass.Gradient(kRows), wrong.grad_rows));
    EXPECT_FALSE(FollowsFormula(pass.passed, wrong.grad_hidden));
  }
}

// One softmax has a prior that no gradient reaches.
TEST(MixtureHead, OfOneSoftmaxIsAFullHeadAfterTanh) {
  TrainPass pass(MixtureOf(1));
  const MixtureFormulas expected(pass, /*posterior=*/true);
  EXPECT_NEAR(pass.sums.loss, expected.loss, 1e-10 * expected.loss);
  EXPECT_EQ(pass.Gradient(kPrior).norm(), 0);
  EXPECT_TRUE(FollowsFormula(pass.Gradient(kComponents), expected.grad_components));
  EXPECT_TRUE(FollowsFormula(pass.Gradient(kRows), expected.grad_rows));
  ExpectSameTrainingOnEveryMesh(MixtureOf(1));
}

// Equal components are one softmax, whatever the prior.
TEST(MixtureHead, OfEqualSoftmaxesIsOneOfThem) {
  const auto alike = [](ParameterStore& parameters) {
    for (size_t i = 0; i < parameters.specs().size(); ++i) {
      if (parameters.specs()[i].name != kComponents) continue;
      const Tensor weight = parameters.Weight(static_cast<int>(i));
      const int64_t size = weight.columns * weight.columns;
      for (int64_t at = 0; at < weight.size(); ++at) SetElement(weight, at, ElementOf(weight, at % size));
    }
  };
  TrainPass one(MixtureOf(1), 1, alike), three(MixtureOf(3), 1, alike);
  EXPECT_NEAR(three.sums.loss, one.sums.loss, 1e-10 * one.sums.loss);
  EXPECT_LT((three.Gradient(kRows) - one.Gradient(kRows)).norm(), 1e-10 * one.Gradient(kRows).norm());
  EXPECT_LT(three.Gradient(kPrior).norm(), 1e-12);
  // Each has a share of the gradient of the one.
  const Matrix of_all = three.Gradient(kComponents), of_one = one.Gradient(kComponents);
  const Matrix sum = of_all.topRows(of_one.rows()) + of_all.middleRows(of_one.rows(), of_one.rows()) +
                     of_all.bottomRows(of_one.rows());
  EXPECT_LT((sum - of_one).norm(), 1e-10 * of_one.norm());
}

TEST(MixtureHead, PrecisionsAgree) {
  for (const int64_t count : {2, 5}) ExpectNarrowHeadsAgree(MixtureOf(count));
}

// The host's log-probabilities, from which text is generated, give the loss of evaluation, at every mesh. They are those
// of all tokens, so that they add up to one.
TEST(MixtureHead, LogitsAreTheLogProbabilitiesOfAllTokens) {
  TinyOptions capped = MixtureOf(3);
  capped.head += " soft_cap: 0.3";
  for (TinyOptions options : {MixtureOf(1), MixtureOf(3), MixtureOf(10), capped}) {
    options.tensor = World().size();
    if (options.tensor > 3) continue;
    SCOPED_TRACE(options.Name());
    Replica replica(options, &World());
    TrainingModel& model = replica.model();
    TokenBatch batch = MakeBatch(options, 1);
    const Tensor ids = PartOf(batch.ids, 0, 1), targets = PartOf(batch.targets, 0, 1);
    ASSERT_TRUE(model.backbone().Forward(ids).ok());
    ASSERT_TRUE(model.loss().ResetSums().ok());
    ASSERT_TRUE(model.loss().Evaluate(model.backbone().hidden(), targets).ok());
    const LossSums evaluated = model.loss().Sums().value();
    const Range own = ShardOf(options.vocabulary, options.tensor, replica.mesh().tensor_rank());
    double sums[2] = {0, 0};  // of target log-probabilities, and of all probabilities
    for (int64_t begin = 0; begin < ids.columns; begin += options.loss_chunk) {
      const int64_t count = std::min(options.loss_chunk, ids.columns - begin);
      const auto logits = model.loss().Logits(model.backbone().hidden().RowSlice(begin, count));
      ASSERT_TRUE(logits.ok()) << logits.status();
      for (int64_t n = 0; n < count; ++n) {
        const int32_t target = batch.targets[static_cast<size_t>(begin + n)];
        for (int64_t row = 0; row < own.size(); ++row) {
          const double value = logits->Row<double>(n)[row];
          sums[1] += std::exp(value);
          if (own.begin + row == target) sums[0] += value;
        }
      }
    }
    ASSERT_TRUE(replica.mesh().tensor().AllReduceNumbers(sums).ok());
    EXPECT_NEAR(-sums[0], evaluated.loss, 1e-10 * evaluated.loss);
    EXPECT_NEAR(sums[1], static_cast<double>(ids.columns), 1e-9);
  }
}

// Training and evaluation find the same loss and the same energy of the shards.
TEST(MixtureHead, EnergyIsByShard) {
  TinyOptions options = MixtureOf(3);
  options.tensor = World().size();
  if (options.tensor > 3) GTEST_SKIP() << "needs 1 to 3 ranks";
  TrainPass pass(options);
  const MixtureFormulas expected(pass, /*posterior=*/true);
  Replica replica(options, &World());
  TokenBatch batch = MakeBatch(options, 1);
  ASSERT_TRUE(replica.model().backbone().Forward(PartOf(batch.ids, 0, 1)).ok());
  ASSERT_TRUE(replica.model().loss().ResetSums().ok());
  const Tensor hidden = replica.model().backbone().hidden();
  ASSERT_TRUE(replica.model().loss().Evaluate(hidden, PartOf(batch.targets, 0, 1)).ok());
  const LossSums found = replica.model().loss().Sums().value();
  ASSERT_EQ(found.energy.size(), static_cast<size_t>(options.tensor));
  double energy = 0;
  for (const double part : found.energy) {
    EXPECT_GT(part, 0);
    energy += part;
  }
  EXPECT_NEAR(energy, expected.energy, 1e-10 * expected.energy);
  EXPECT_NEAR(found.loss, expected.loss, 1e-10 * expected.loss);
}

// Neither more tokens nor more softmaxes need more rows of logits.
TEST(MixtureHead, ItsMemoryGrowsNeitherWithTokensNorWithLogitsOfSoftmaxes) {
  const auto bytes = [](int64_t count, int64_t sequences) {
    TinyOptions options = MixtureOf(count);
    options.vocabulary = 5000;
    options.loss_chunk = 12;
    options.sequences = sequences;
    Replica replica(options);
    return replica.model().loss().bytes();
  };
  EXPECT_EQ(bytes(3, 8), bytes(3, 64));
  const int64_t logits = 12 * 5000 * 8;
  for (const int64_t count : {1, 6, 12}) EXPECT_LT(bytes(count, 8), 1.1 * static_cast<double>(logits)) << count;
}

TEST(MixtureHead, FirstLogitsHaveTheVarianceOfAFullHead) {
  TinyOptions options = MixtureOf(2);
  options.width = 48;
  options.vocabulary = 2000;
  TrainPass pass(options);
  const Matrix components = pass.Weight(kComponents), rows = pass.Weight(kRows);
  const Matrix features = (pass.hidden * components.transpose()).array().tanh();
  const Matrix first = features.leftCols(48) * rows.transpose(), second = features.rightCols(48) * rows.transpose();
  const double deviation = TinyConfig(options).model().init_std();
  for (const Matrix& logits : {first, second}) {
    const double variance = logits.squaredNorm() / static_cast<double>(logits.size());
    EXPECT_NEAR(variance / (deviation * deviation * 48), 1, 0.1);
  }
}

TEST(MixtureHead, HasATitle) {
  EXPECT_EQ(HeadTitle(TinyConfig(MixtureOf(3)).model()), "mixture of 3 softmaxes");
  proto::ModelConfig model;
  model.mutable_head()->set_kind("mixture");
  EXPECT_EQ(HeadTitle(model), "mixture of 4 softmaxes");
}

TEST(MixtureHead, WrongSettingsAreRefused) {
  const auto refusal = [](const std::string& head, bool tied = false) {
    TinyOptions options = PartOptions();
    options.head = head;
    options.tied = tied;
    return std::string(CheckHead(TinyConfig(options).model(), "here").message());
  };
  EXPECT_EQ(refusal("kind: 'mixture'"), "");
  EXPECT_EQ(refusal("kind: 'mixture' mixture { count: 64 }"), "");
  EXPECT_EQ(refusal("kind: 'mixture' rank: 8"), "here: model.head.rank: 8; a head of kind mixture accepts 0");
  EXPECT_EQ(refusal("kind: 'mixture'", /*tied=*/true),
            "here: model.tied_embeddings: true; a head of kind mixture accepts false");
  EXPECT_EQ(refusal("kind: 'mixture' z_loss: 0.5"),
            "here: model.head.z_loss: 0.5; a head of kind mixture accepts 0: its softmaxes have a normaliser each");
  for (const char* found : {"0", "-1", "65", "9223372036854775807", "-9223372036854775808"}) {
    EXPECT_EQ(refusal(std::string("kind: 'mixture' mixture { count: ") + found + " }"),
              std::string("here: model.head.mixture.count: ") + found + "; accepts 1 to 64");
  }
  EXPECT_EQ(refusal("mixture { count: 3 }"),
            "here: model.head.mixture.count: 3; model.head.kind is full, and only a head of kind mixture has it; leave "
            "it unset");
  for (const char* hook :
       {"backward { kind: 'random' }", "weight_gradient { kind: 'lost' }", "orthogonality: 0.1", "alignment: 0.1"}) {
    EXPECT_EQ(refusal(std::string("kind: 'mixture' ") + hook),
              "here: model.head.kind: mixture; its logits are no product with a parameter, as model.head.backward, "
              "weight_gradient, orthogonality and alignment need it; set those to their defaults");
  }
}

}  // namespace
}  // namespace isthmus::testing
