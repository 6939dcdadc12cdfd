// ranks: 1 2 6
// Tests of the forms of the loss that every head can train by: model.head.soft_cap and model.head.z_loss.
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
#include "tests/support/head_pass.h"
#include "tests/support/mpi_world.h"
#include "tests/support/part_checks.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;

constexpr double kSameNumber = 1e-10;
// The logits of a tiny model are some tenths, and many are beyond these caps.
const char* const kForms[] = {"soft_cap: 0.15", "z_loss: 0.3", "soft_cap: 0.25 z_loss: 0.1"};

// These heads have one matrix W, and HeadPass knows their formulas.
std::vector<TinyOptions> LinearHeadsOf(const std::string& form) {
  TinyOptions full = PartOptions();
  full.head = form;
  TinyOptions tied = full, factorised = full;
  tied.tied = true;
  factorised.head_rank = 9;
  return SomeOf(std::vector{full, tied, factorised});
}

// These heads make logits in their own ways.
std::vector<TinyOptions> OtherHeadsOf(const std::string& form) {
  TinyOptions sampled = PartOptions(), cluster = sampled, levels = sampled, single = sampled;
  sampled.head_kind = "sampled";
  sampled.head = form + " sampled { classes: 70 }";
  cluster.head_kind = "cluster";
  cluster.head = form + " clusters { kind: 'random' count: 7 }";
  levels.head_kind = single.head_kind = "hierarchical";
  levels.head = form + " clusters { kind: 'random' count: 7 }";
  single.head = form + " clusters { kind: 'frequency' count: 4 }";
  return {sampled, cluster, levels, single};
}

proto::HeadConfig ConfigOf(const TinyOptions& options) { return TinyConfig(options).model().head(); }

Matrix WithCap(const Matrix& logits, double cap) {
  return cap == 0 ? logits : Matrix(cap * (logits.array() / cap).tanh());
}

// Returns log Σ exp of each row.
Eigen::VectorXd LogSums(const Matrix& logits) { return logits.array().exp().rowwise().sum().log(); }

struct FormLosses {
  double cross_entropy = 0, z_loss = 0;  // sums over the tokens
};

FormLosses FormLossesOf(const HeadPass& pass, const proto::HeadConfig& config) {
  const Matrix logits = WithCap(pass.logits, config.soft_cap());
  const Eigen::VectorXd log_sums = LogSums(logits);
  FormLosses losses{log_sums.sum(), config.z_loss() * log_sums.squaredNorm()};
  for (Eigen::Index n = 0; n < logits.rows(); ++n) {
    losses.cross_entropy -= logits(n, pass.targets[static_cast<size_t>(n)]);
  }
  return losses;
}

double FormError(const Matrix& found, const Matrix& expected) { return (found - expected).norm() / expected.norm(); }

TEST(LossForm, LossAndGradientsFollowTheFormulas) {
  for (const char* form : kForms) {
    for (const TinyOptions& head : LinearHeadsOf(form)) {
      SCOPED_TRACE(head.Name());
      HeadPass pass(head);
      const FormLosses losses = FormLossesOf(pass, ConfigOf(head));
      EXPECT_NEAR(pass.sums.loss, losses.cross_entropy, kSameNumber * losses.cross_entropy);
      EXPECT_NEAR(pass.sums.z_loss, losses.z_loss, kSameNumber * losses.cross_entropy);
      const double energy = pass.gradient.squaredNorm() / (pass.scale * pass.scale);
      EXPECT_NEAR(pass.sums.energy[0], energy, kSameNumber * energy);
      EXPECT_LT(FormError(pass.passed, pass.gradient * pass.weight), kSameNumber);
      const Matrix input =
          head.head_rank > 0 ? Matrix(pass.hidden * pass.Weight("head.down.weight").transpose()) : pass.hidden;
      EXPECT_LT(FormError(pass.WeightGradient(), pass.gradient.transpose() * input), kSameNumber);
    }
  }
}

// A gradient that lacks one of its factors is far from the true one.
TEST(LossForm, EveryFactorOfTheGradientMatters) {
  for (const char* whole : {"soft_cap: 0.15", "z_loss: 0.3"}) {
    TinyOptions options = PartOptions();
    options.head = whole;
    HeadPass with(options);
    options.head = "";
    HeadPass without(options);
    EXPECT_GT(FormError(with.passed, without.passed), 1e-2);
    EXPECT_GT(std::abs(with.sums.energy[0] / without.sums.energy[0] - 1), 1e-2);
  }
}

TEST(LossForm, GradientsMatchFiniteDifferences) {
  for (const char* form : kForms) {
    for (const TinyOptions& head : LinearHeadsOf(form)) EXPECT_LT(WorstGradientError(head), 1e-6) << head.Name();
    for (const TinyOptions& head : OtherHeadsOf(form)) EXPECT_LT(WorstGradientError(head), 1e-6) << head.Name();
  }
}

// The figures of the decomposition are of G by the logits before the cap, by a singular value decomposition of W.
TEST(LossForm, FiguresAreOfTheGradientByTheLogitsOfTheHead) {
  for (const char* form : kForms) {
    for (const TinyOptions& head : LinearHeadsOf(form)) {
      SCOPED_TRACE(head.Name());
      HeadPass pass(head);
      const Matrix& gradient = pass.gradient;
      const Eigen::BDCSVD<Eigen::MatrixXd> svd(pass.weight, Eigen::ComputeThinU);
      const Matrix basis = svd.matrixU().leftCols(pass.up.cols());
      const Matrix kept = gradient * basis * basis.transpose();
      double at_targets = 0, sum_at_targets = 0;
      for (Eigen::Index n = 0; n < gradient.rows(); ++n) {
        const double at_target = gradient(n, pass.targets[static_cast<size_t>(n)]);
        at_targets += at_target * at_target;
        sum_at_targets += at_target;
      }
      const Matrix moved = gradient * pass.weight * pass.weight.transpose();

      Replica replica(head);
      const StepWithFigures step = replica.Step(1, /*measure_head=*/true);
      ASSERT_TRUE(step.head.has_value() && step.head->linear);
      const proto::HeadRecord& found = step.head->scalars;
      EXPECT_NEAR(found.logit_gradient_norm(), gradient.norm(), 1e-10 * gradient.norm());
      EXPECT_NEAR(found.visible_cosine(), kept.norm() / gradient.norm(), 1e-9);
      EXPECT_NEAR(found.target_energy_share(), at_targets / gradient.squaredNorm(), 1e-9);
      EXPECT_NEAR(found.hidden_update_cosine(), moved.cwiseProduct(gradient).sum() / (gradient.norm() * moved.norm()),
                  1e-9);
      EXPECT_LT(found.decomposition_error(), 1e-9);
      EXPECT_LT(sum_at_targets, 0);
      // The loss of the step is the cross-entropy alone.
      const FormLosses losses = FormLossesOf(pass, ConfigOf(head));
      EXPECT_NEAR(step.loss, pass.scale * losses.cross_entropy, 1e-10);
      EXPECT_EQ(step.head_losses.z_loss.has_value(), ConfigOf(head).z_loss() > 0);
      EXPECT_NEAR(step.head_losses.z_loss.value_or(0), pass.scale * losses.z_loss, 1e-10);
    }
  }
}

TEST(LossForm, EveryMeshTrainsAsOneRank) {
  for (const TinyOptions& head : LinearHeadsOf("soft_cap: 0.25 z_loss: 0.1")) ExpectSameTrainingOnEveryMesh(head);
  for (const TinyOptions& head : OtherHeadsOf("soft_cap: 0.25 z_loss: 0.1")) {
    if (head.head_kind != "sampled") ExpectSameTrainingOnEveryMesh(head);
  }
}

TEST(LossForm, TheZLossIsThatOfAllTokensOnEveryMesh) {
  for (TinyOptions head : LinearHeadsOf("soft_cap: 0.25 z_loss: 0.1")) {
    head.tensor = World().size() % 3 == 0 ? 3 : World().size() % 2 == 0 ? 2 : 1;
    head.data = World().size() / head.tensor;
    SCOPED_TRACE(head.Name());
    Replica alone(head);
    head.micro_batch = 2;
    Replica meshed(head, &World());
    const StepWithFigures expected = alone.Step(1, true), found = meshed.Step(1, true);
    ASSERT_TRUE(found.head_losses.z_loss.has_value() && expected.head_losses.z_loss.has_value());
    EXPECT_GT(*expected.head_losses.z_loss, 1);
    EXPECT_NEAR(*found.head_losses.z_loss, *expected.head_losses.z_loss, kSameNumber);
  }
}

TEST(LossForm, PlansCheckpointsAndFiguresHold) {
  for (const TinyOptions& head : LinearHeadsOf("soft_cap: 0.25 z_loss: 0.1")) {
    SCOPED_TRACE(head.Name());
    ExpectPlannedMemory(head);
    ExpectStatedProducts(head);
    ExpectPlannedCalls(head);
    ExpectResumeOnEveryMesh(head);
    ExpectSameFiguresOnEveryMesh(head);
  }
  for (const TinyOptions& head : OtherHeadsOf("soft_cap: 0.25 z_loss: 0.1")) {
    SCOPED_TRACE(head.Name());
    ExpectPlannedMemory(head);
    ExpectResumeOnEveryMesh(head);
    ExpectSameFiguresOnEveryMesh(head);
  }
}

// Losses on the head itself and what goes back see G by the logits of the head.
TEST(LossForm, HooksOnTheHeadWorkWithIt) {
  for (const char* hooks : {"orthogonality: 0.3 alignment: 0.7", "backward { kind: 'rank' rank: 5 }",
                            "weight_gradient { kind: 'lost' }", "backward { kind: 'dense_feedback' }"}) {
    TinyOptions options = PartOptions();
    options.head = std::string("soft_cap: 0.25 z_loss: 0.1 ") + hooks;
    SCOPED_TRACE(options.Name());
    ExpectSameFiguresOnEveryMesh(options);
  }
  if (World().size() > 1) return;
  TinyOptions options = PartOptions();
  options.head = "soft_cap: 0.25 z_loss: 0.1 alignment: 0.7";
  HeadPass pass(options);
  Replica replica(options);
  const StepWithFigures step = replica.Step(1, true);
  const Matrix moved = pass.gradient * pass.weight * pass.weight.transpose();
  EXPECT_NEAR(step.head_losses.alignment.value_or(0),
              -0.7 * moved.cwiseProduct(pass.gradient).sum() / (pass.gradient.norm() * moved.norm()), 1e-9);
  EXPECT_TRUE(step.head_losses.z_loss.has_value());
}

// Evaluation and the generation of text see the cap, and no z-loss.
TEST(LossForm, EvaluationAndLogitsHaveTheCap) {
  for (const TinyOptions& head : LinearHeadsOf("soft_cap: 0.15 z_loss: 0.3")) {
    SCOPED_TRACE(head.Name());
    HeadPass pass(head);
    TokenBatch batch = MakeBatch(head, 1);
    Replica replica(head);
    const auto evaluated = replica.model().Evaluate(PartOf(batch.ids, 0, 1), PartOf(batch.targets, 0, 1));
    ASSERT_TRUE(evaluated.ok()) << evaluated.status();
    EXPECT_NEAR(*evaluated, pass.scale * FormLossesOf(pass, ConfigOf(head)).cross_entropy, 1e-10);
    const int64_t count = head.loss_chunk;
    const auto logits = pass.model().loss().Logits(pass.model().backbone().hidden().RowSlice(0, count));
    ASSERT_TRUE(logits.ok()) << logits.status();
    const Matrix whole = pass.logits.topRows(count), expected = WithCap(whole, 0.15);
    EXPECT_LT((MatrixOf(*logits) - expected).cwiseAbs().maxCoeff(), 1e-12);
    EXPECT_GT((whole - expected).cwiseAbs().maxCoeff(), 1e-2);
  }
}

// The log-probabilities of a softmax in two levels are those that it is evaluated by.
TEST(LossForm, LevelsHaveTheProbabilitiesThatTheyAreEvaluatedBy) {
  for (TinyOptions head : OtherHeadsOf("soft_cap: 0.15")) {
    if (head.head_kind != "hierarchical") continue;
    SCOPED_TRACE(head.Name());
    TrainPass pass(head);
    const auto sum = [&](double cap) {
      TokenBatch batch = MakeBatch(head, 1);
      double loss = 0, worst = 0;
      const Tensor hidden = pass.model().backbone().hidden();
      for (int64_t begin = 0; begin < hidden.rows; begin += head.loss_chunk) {
        const int64_t count = std::min(head.loss_chunk, hidden.rows - begin);
        const auto found = pass.model().loss().Logits(hidden.RowSlice(begin, count));
        EXPECT_TRUE(found.ok()) << found.status();
        const Matrix logits = WithCap(MatrixOf(*found), cap);
        for (int64_t n = 0; n < count; ++n) loss -= logits(n, batch.targets[static_cast<size_t>(begin + n)]);
        worst = std::max(worst, LogSums(logits).cwiseAbs().maxCoeff());
      }
      return std::pair(loss, worst);
    };
    EXPECT_NEAR(sum(0).first, pass.sums.loss, kSameNumber * pass.sums.loss);
    EXPECT_LT(sum(0).second, 1e-12);
    // A cap on the log-probabilities themselves would make other ones.
    EXPECT_GT(sum(0.15).second, 1);
  }
}

const proto::PrecisionConfig::Kind kAllPrecisions[] = {proto::PrecisionConfig::FP64, proto::PrecisionConfig::FP32,
                                                       proto::PrecisionConfig::BF16};

TEST(LossForm, OfZerosIsThePlainOneBitForBit) {
  for (TinyOptions head : LinearHeadsOf("")) {
    for (const auto precision : kAllPrecisions) {
      head.precision = precision;
      const auto train = [&](const char* form) {
        head.head = form;
        Replica replica(head);
        std::vector<double> losses;
        for (int64_t step = 1; step <= 4; ++step) losses.push_back(replica.Step(step, step == 2).loss);
        return losses;
      };
      SCOPED_TRACE(head.Name());
      const std::vector<double> plain = train("");
      EXPECT_EQ(train("soft_cap: 0 z_loss: 0"), plain);
      const std::vector<double> with_z_loss = train("z_loss: 0.1");
      EXPECT_EQ(with_z_loss[0], plain[0]);  // the reported loss is the cross-entropy
      EXPECT_NE(with_z_loss, plain);
      EXPECT_NE(train("soft_cap: 0.3")[0], plain[0]);
    }
  }
}

TEST(LossForm, PrecisionsAgree) {
  for (const char* form : kForms) {
    for (TinyOptions options : LinearHeadsOf(form)) {
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
          EXPECT_NEAR(found.head_losses.z_loss.value_or(0), wanted.head_losses.z_loss.value_or(0), 10 * tolerance);
          EXPECT_NEAR(found.head->scalars.logit_gradient_norm() / wanted.head->scalars.logit_gradient_norm(), 1,
                      2 * tolerance);
          EXPECT_NEAR(found.head->scalars.visible_cosine(), wanted.head->scalars.visible_cosine(), 2 * tolerance);
        }
      }
    }
  }
}

// The z-loss pulls log Σ exp z towards 0.
TEST(LossForm, TrainingFollowsTheZLoss) {
  if (World().size() > 1) GTEST_SKIP() << "one rank shows it";
  const auto z_loss_after = [](const char* form) {
    TinyOptions options = PartOptions();
    options.head = form;
    Replica replica(options);
    for (int64_t step = 1; step < 20; ++step) replica.Step(step);
    return *replica.Step(20, true).head_losses.z_loss / ConfigOf(options).z_loss();
  };
  EXPECT_LT(z_loss_after("z_loss: 1"), 0.9 * z_loss_after("z_loss: 1e-9"));
}

TEST(LossForm, WrongSettingsAreRefused) {
  const auto refusal = [](const std::string& field, double value) {
    proto::ModelConfig config = TinyConfig(PartOptions()).model();
    (field == "z_loss" ? config.mutable_head()->set_z_loss(value) : config.mutable_head()->set_soft_cap(value));
    return std::string(CheckHead(config, "here").message());
  };
  constexpr double kInfinity = std::numeric_limits<double>::infinity(), kNaN = std::numeric_limits<double>::quiet_NaN();
  for (const double value : {0.0, 1e-4, 1e3}) EXPECT_EQ(refusal("z_loss", value), "");
  for (const auto& [value, found] : {std::pair(-0.5, "-0.5"), std::pair(kInfinity, "inf"), std::pair(kNaN, "nan")}) {
    EXPECT_EQ(refusal("z_loss", value),
              std::string("here: model.head.z_loss: ") + found + "; accepts 0 (off) and finite numbers above");
  }
  for (const double value : {0.0, 1e-3, 30.0, 1e6}) EXPECT_EQ(refusal("soft_cap", value), "");
  for (const double value : {-30.0, 1e-4, 1e7, kInfinity, -kInfinity, kNaN}) {
    EXPECT_THAT(refusal("soft_cap", value), HasSubstr("; accepts 0 (none) and 0.001 to 1e+06")) << value;
  }
}

}  // namespace
}  // namespace isthmus::testing
