// ranks: 1 2 3
// Tests of the head whose classes are the targets of a micro-batch.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "model/algebra/matrix.h"
#include "model/heads/heads.h"
#include "tests/support/head_pass.h"
#include "tests/support/mpi_world.h"
#include "tests/support/part_checks.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;

TinyOptions Contrasted(const std::string& settings = "") {
  TinyOptions options = PartOptions();
  options.head_kind = "contrastive";
  options.tied = true;
  options.head = settings.empty() ? "" : "contrastive { " + settings + " }";
  return options;
}

// By the paper's formula, with one column for each token of the micro-batch.
TEST(ContrastiveHead, FollowsThePapersFormula) {
  const TinyOptions options = Contrasted();
  TrainPass pass(options);
  const Matrix table = pass.Weight("embedding.weight");
  const std::vector<int32_t> columns = pass.targets;
  const Matrix rows = table(columns, Eigen::all);
  Matrix gradient = pass.hidden * rows.transpose();
  double loss = 0, energy = 0;
  int64_t repeated = 0;
  for (Eigen::Index n = 0; n < gradient.rows(); ++n) {
    const Eigen::RowVectorXd e = gradient.row(n).array().exp();
    const auto times = std::count(columns.begin(), columns.end(), columns[static_cast<size_t>(n)]);
    if (times > 1) ++repeated;
    loss += std::log(e.sum()) - gradient(n, n) - std::log(static_cast<double>(times));
    gradient.row(n) = e / e.sum();
    gradient(n, n) -= 1;
    // The energy is that of the different tokens' logits.
    Eigen::VectorXd by_token = Eigen::VectorXd::Zero(table.rows());
    for (Eigen::Index k = 0; k < gradient.cols(); ++k) by_token(columns[static_cast<size_t>(k)]) += gradient(n, k);
    energy += by_token.squaredNorm();
  }
  ASSERT_GT(repeated, 10);
  gradient *= pass.scale;
  EXPECT_NEAR(pass.sums.loss, loss, 1e-10 * loss);
  EXPECT_NEAR(pass.sums.energy[0], energy, 1e-10 * energy);
  Matrix expected = Matrix::Zero(table.rows(), table.cols());
  for (Eigen::Index k = 0; k < rows.rows(); ++k) {
    expected.row(columns[static_cast<size_t>(k)]) += gradient.col(k).transpose() * pass.hidden;
  }
  EXPECT_LT((pass.Gradient("embedding.weight") - expected).norm(), 1e-10 * expected.norm());
  const Matrix passed = gradient * rows;
  EXPECT_LT((pass.passed - passed).norm(), 1e-10 * passed.norm());
}

// The same of a step with several micro-batches, each of which has its own targets alone.
TEST(ContrastiveHead, EachMicroBatchHasItsOwnTargets) {
  TinyOptions options = Contrasted();
  TrainPass pass(options);
  const Matrix table = pass.Weight("embedding.weight");
  constexpr Eigen::Index kMicroBatches = 4;
  const Eigen::Index tokens = pass.hidden.rows() / kMicroBatches;
  double loss = 0;
  for (Eigen::Index begin = 0; begin < pass.hidden.rows(); begin += tokens) {
    const std::vector<int32_t> targets(pass.targets.begin() + begin, pass.targets.begin() + begin + tokens);
    const Matrix logits = pass.hidden.middleRows(begin, tokens) * table(targets, Eigen::all).transpose();
    for (Eigen::Index n = 0; n < tokens; ++n) {
      const auto times = std::count(targets.begin(), targets.end(), targets[static_cast<size_t>(n)]);
      loss += std::log(logits.row(n).array().exp().sum()) - logits(n, n) - std::log(static_cast<double>(times));
    }
  }
  options.tensor = World().size();
  options.micro_batch = options.sequences / kMicroBatches;
  Replica replica(options, &World());
  EXPECT_NEAR(replica.Step(1).loss, loss * pass.scale, 1e-10 * loss * pass.scale);
}

// Without duplicates it is the softmax over the different targets alone.
TEST(ContrastiveHead, WithoutDuplicatesHasTheBitsOfASampleOfTheTargets) {
  TinyOptions sample = PartOptions();
  sample.tied = true;
  sample.head_kind = "sampled";
  sample.head = "sampled { classes: 1 }";  // the targets are more, and all of them
  Replica contrasted(Contrasted("duplicates: false")), sampled(sample), counted(Contrasted());
  for (int64_t step = 1; step <= 3; ++step) {
    const double loss = contrasted.Step(step).loss;
    EXPECT_EQ(loss, sampled.Step(step).loss) << step;
    EXPECT_NE(loss, counted.Step(step).loss) << step;
  }
}

TEST(ContrastiveHead, GradientsMatchFiniteDifferences) {
  for (const char* settings : {"", "duplicates: false", "gather: true"}) {
    EXPECT_LT(WorstGradientError(Contrasted(settings)), 1e-6) << settings;
  }
}

std::vector<double> LossesOfSteps(Replica& replica, int64_t steps) {
  std::vector<double> losses;
  for (int64_t step = 1; step <= steps; ++step) losses.push_back(replica.Step(step).loss);
  return losses;
}

// Gathered classes are those of one rank that has all tokens. Other data ranks' tokens are none of a rank's own.
TEST(ContrastiveHead, EveryMeshTrainsAsOneRank) {
  for (const int tensor : {1, 2, 3}) {
    TinyOptions options = Contrasted("gather: true vocabulary_from_step: 6");
    options.tensor = tensor;
    options.data = World().size() / tensor;
    if (World().size() % tensor != 0 || options.data > 2) continue;
    for (const bool sharded : {false, true}) {
      options.sequence_parallel = options.shard_optimizer = sharded;
      options.micro_batch = sharded && options.data == 1 ? 2 : 0;
      SCOPED_TRACE(options.Name());
      Replica alone(options), meshed(options, &World());
      const std::vector<double> expected = LossesOfSteps(alone, 8), found = LossesOfSteps(meshed, 8);
      for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(found[i], expected[i], 1e-10 * expected[i]) << i;
      EXPECT_LT(expected[4], expected[0]);
      EXPECT_GT(expected[5], expected[4]);  // the whole vocabulary has more classes
      if (options.data == 1) continue;
      TinyOptions apart = options;
      apart.head = Contrasted("vocabulary_from_step: 6").head;
      Replica separate(apart, &World());
      EXPECT_LT(separate.Step(1).loss, found[0]);
    }
  }
}

TEST(ContrastiveHead, PlansCheckpointsAndFiguresHold) {
  const TinyOptions options = Contrasted("gather: true vocabulary_from_step: 4");
  ExpectPlannedMemory(options);
  ExpectResumeOnEveryMesh(Contrasted("gather: true"));
  ExpectSameFiguresOnEveryMesh(Contrasted("gather: true"));
  ExpectSameFiguresOnEveryMesh(Contrasted("gather: true vocabulary_from_step: 2"));
}

TEST(ContrastiveHead, SaysWhyAStepIsNotMeasuredAndHasItsTokensShares) {
  TinyOptions options = Contrasted("vocabulary_from_step: 2");
  options.jacobian_tokens = 5;
  Replica replica(options);
  const StepWithFigures contrasted = replica.Step(1, /*measure_head=*/true), whole = replica.Step(2, true);
  ASSERT_TRUE(contrasted.head.has_value() && whole.head.has_value());
  EXPECT_FALSE(contrasted.head->linear);
  EXPECT_THAT(contrasted.head->not_measured, HasSubstr("change with each micro-batch"));
  ASSERT_TRUE(contrasted.head->visible.has_value());
  EXPECT_GT(contrasted.head->visible->logits.cosine(), 0);
  EXPECT_GT(contrasted.head->visible->log_probabilities.cosine(), 0);
  EXPECT_TRUE(whole.head->linear);
}

// The shares of all tokens by their definition, each with the classes of its own micro-batch.
TEST(ContrastiveHead, SharesOfTokensAreThoseByTheClassesOfTheirMicroBatch) {
  for (const std::string& settings : {std::string("contrastive { duplicates: true }"),
                                      std::string("contrastive { duplicates: false } z_loss: 0.3")}) {
    TinyOptions options = Contrasted();
    options.head = settings;
    TrainPass pass(options);
    const Matrix table = pass.Weight("embedding.weight");
    const LossForm form = LossFormOf(TinyConfig(options).model());
    constexpr Eigen::Index kMicroBatches = 2;
    const Eigen::Index tokens = pass.hidden.rows() / kMicroBatches;
    double whole = 0, visible = 0;
    for (Eigen::Index begin = 0; begin < pass.hidden.rows(); begin += tokens) {
      const std::vector<int32_t> targets(pass.targets.begin() + begin, pass.targets.begin() + begin + tokens);
      std::vector<int32_t> classes = targets;
      std::sort(classes.begin(), classes.end());
      classes.erase(std::unique(classes.begin(), classes.end()), classes.end());
      const Matrix rows = table(classes, Eigen::all);
      const Eigen::BDCSVD<Eigen::MatrixXd> svd(rows, Eigen::ComputeThinU);
      const Eigen::MatrixXd basis = svd.matrixU().leftCols(svd.rank());
      for (Eigen::Index n = 0; n < tokens; ++n) {
        Eigen::VectorXd gradient = (rows * pass.hidden.row(begin + n).transpose()).array().exp();
        for (size_t k = 0; k < classes.size(); ++k) {
          const auto times = std::count(targets.begin(), targets.end(), classes[k]);
          if (form.z_loss == 0) gradient(static_cast<Eigen::Index>(k)) *= static_cast<double>(times);
        }
        const double sum = gradient.sum();
        gradient *= (1 + 2 * form.z_loss * std::log(sum)) / sum;
        const int32_t target = targets[static_cast<size_t>(n)];
        gradient(std::find(classes.begin(), classes.end(), target) - classes.begin()) -= 1;
        whole += gradient.squaredNorm();
        visible += (basis.transpose() * gradient).squaredNorm();
      }
    }
    options.tensor = World().size();
    options.micro_batch = options.sequences / kMicroBatches;
    options.jacobian_tokens = pass.hidden.rows();
    SCOPED_TRACE(options.Name());
    Replica replica(options, &World());
    const StepWithFigures step = replica.Step(1, /*measure_head=*/true);
    ASSERT_TRUE(step.head.has_value() && step.head->visible.has_value());
    EXPECT_EQ(step.head->visible->tokens, pass.hidden.rows());
    EXPECT_NEAR(step.head->visible->logits.whole, whole, 1e-10 * whole);
    EXPECT_NEAR(step.head->visible->logits.visible, visible, 1e-10 * visible);
    EXPECT_LT(visible, 0.97 * whole);
  }
}

// Evaluation is over the whole vocabulary.
TEST(ContrastiveHead, EvaluatesAsTheTiedHead) {
  TinyOptions tied = PartOptions();
  tied.tied = true;
  Replica contrasted(Contrasted()), plain(tied);
  TokenBatch batch = MakeBatch(tied, 1);
  const auto evaluate = [&](Replica& replica) {
    return replica.model().Evaluate(PartOf(batch.ids, 0, 1), PartOf(batch.targets, 0, 1)).value();
  };
  EXPECT_EQ(evaluate(contrasted), evaluate(plain));
}

TEST(ContrastiveHead, IsRehearsedAndPrecisionsAgree) {
  Replica rehearsed(Contrasted()), plain(Contrasted());
  ASSERT_TRUE(rehearsed.model().Rehearse().ok());
  EXPECT_EQ(rehearsed.Step(1, /*measure_head=*/true).loss, plain.Step(1).loss);
  for (const auto& [precision, tolerance] :
       {std::pair(proto::PrecisionConfig::FP32, 1e-5), std::pair(proto::PrecisionConfig::BF16, 1e-2)}) {
    TinyOptions options = Contrasted();
    options.tensor = World().size();
    options.precision = precision;
    options.micro_batch = 2;
    Replica narrow(options, &World());
    options.precision = proto::PrecisionConfig::FP64;
    Replica wide(options);
    for (int64_t step = 1; step <= 4; ++step) {
      const double expected = wide.Step(step).loss;
      EXPECT_NEAR(narrow.Step(step).loss, expected, tolerance * expected) << step;
    }
  }
}

TEST(ContrastiveHead, WrongSettingsAreRefused) {
  const auto refusal = [](TinyOptions options) {
    return std::string(CheckHead(TinyConfig(options).model(), "here").message());
  };
  EXPECT_EQ(refusal(Contrasted("gather: true")), "");
  TinyOptions untied = Contrasted();
  untied.tied = false;
  EXPECT_THAT(refusal(untied), HasSubstr("model.tied_embeddings: false; the classes of a head of kind contrastive"));
  TinyOptions capped = Contrasted();
  capped.head = "soft_cap: 3";
  EXPECT_THAT(refusal(capped), HasSubstr("model.head.soft_cap: 3; a head of kind contrastive accepts 0"));
  EXPECT_THAT(refusal(Contrasted("vocabulary_from_step: -1")), HasSubstr("vocabulary_from_step: -1; accepts 0"));
  TinyOptions other = Contrasted("gather: true");
  other.head_kind = "tied";
  EXPECT_THAT(refusal(other), HasSubstr("model.head.contrastive.gather: true; model.head.kind is tied"));
  TinyOptions hooked = Contrasted();
  hooked.head = "backward { kind: 'random' }";
  EXPECT_THAT(refusal(hooked), HasSubstr("set those to their defaults"));
}

}  // namespace
}  // namespace isthmus::testing
