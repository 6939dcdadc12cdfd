// ranks: 1 2 4 6
// Tests of the losses of later targets, which every head can train by: model.head.future.
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
#include "model/future_schedule.h"
#include "model/heads/heads.h"
#include "tests/support/head_pass.h"
#include "tests/support/lone_head.h"
#include "tests/support/mpi_world.h"
#include "tests/support/part_checks.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr double kFutureExact = 1e-10;
constexpr char kThreeLater[] = "future { weights: [0.5, 0, 1.25] } ";
constexpr char kLaterAndForm[] = "future { weights: [0.5, 0, 1.25] } soft_cap: 0.25 z_loss: 0.1 ";
// These end within the steps of a test. ExpectResumeOnEveryMesh resumes at step 5.
constexpr char kLaterInStages[] =
    "future { from_step: 1 weights: [0.5, 0.25] } future { from_step: 4 weights: [0.2, 0] } "
    "future { from_step: 7 weights: [0, 0] } ";

TinyOptions FutureHead(const std::string& settings, const std::string& kind = "", bool tied = false) {
  TinyOptions options = PartOptions();
  options.head_kind = kind;
  options.head = settings;
  options.tied = tied;
  return options;
}

// These heads have one matrix W, and HeadPass knows their formulas.
std::vector<TinyOptions> LinearHeadsWith(const std::string& settings) {
  TinyOptions factorised = FutureHead(settings);
  factorised.head_rank = 9;
  return SomeOf(std::vector{FutureHead(settings), FutureHead(settings, "", true), factorised});
}

// These heads take all rows of targets at once, too.
std::vector<TinyOptions> OtherFusedHeads(const std::string& settings) {
  return {FutureHead(settings + "sampled { classes: 70 }", "sampled"),
          FutureHead(settings + "clusters { kind: 'random' count: 7 }", "cluster"),
          FutureHead(settings + "expansion: 2", "wide")};
}

// These heads take one row of targets at a time. A mixture has no z-loss.
std::vector<TinyOptions> HeadsByOffset(const std::string& settings) {
  std::vector<TinyOptions> heads = {FutureHead(settings + "clusters { kind: 'random' count: 7 }", "hierarchical"),
                                    FutureHead(settings + "copy_width: 5", "copy")};
  if (settings.find("z_loss") == std::string::npos) {
    heads.push_back(FutureHead(settings + "mixture { count: 3 }", "mixture"));
  }
  return heads;
}

std::vector<TinyOptions> AllHeads(const std::string& settings) {
  std::vector<TinyOptions> all = LinearHeadsWith(settings);
  for (const auto& more : {OtherFusedHeads(settings), HeadsByOffset(settings)}) {
    all.insert(all.end(), more.begin(), more.end());
  }
  if (settings.find("soft_cap") == std::string::npos) {
    all.push_back(FutureHead(settings + "contrastive { gather: true }", "contrastive", true));
  }
  return all;
}

double FutureError(const Matrix& found, const Matrix& expected) { return (found - expected).norm() / expected.norm(); }

// Returns the sum of -log p of the targets at an offset.
double LossAt(const HeadPass& pass, double cap, int64_t offset) {
  const Matrix z = cap == 0 ? pass.logits : Matrix(cap * (pass.logits.array() / cap).tanh());
  double loss = z.array().exp().rowwise().sum().log().sum();
  for (Eigen::Index n = 0; n < z.rows(); ++n) loss -= z(n, pass.LaterTarget(n, offset));
  return loss;
}

TEST(FutureTokens, LaterTargetsStayWithinTheirSequence) {
  const std::vector<int32_t> targets = {1, 2, 3, 4, 5, 6, 7, 8};
  EXPECT_THAT(WithFutureTargets(targets, 4, 2),
              ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 2, 3, 4, 4, 6, 7, 8, 8, 3, 4, 4, 4, 7, 8, 8, 8));
  EXPECT_EQ(WithFutureTargets(targets, 4, 0), targets);
  EXPECT_THAT(WithFutureTargets({targets.data(), 2}, 1, 3), ElementsAre(1, 2, 1, 2, 1, 2, 1, 2));
}

TEST(FutureTokens, WeightsMoveInStraightLines) {
  const FutureSchedule schedule(TinyConfig(FutureHead(kLaterInStages)).model().head());
  EXPECT_EQ(schedule.offsets(), 2);
  EXPECT_THAT(schedule.WeightsAt(1), ElementsAre(0.5, 0.25));
  EXPECT_THAT(schedule.WeightsAt(2), ElementsAre(::testing::DoubleEq(0.4), ::testing::DoubleEq(0.25 * 2 / 3)));
  EXPECT_THAT(schedule.WeightsAt(4), ElementsAre(0.2, 0));
  EXPECT_EQ(schedule.CountAt(4), 1);
  for (const int64_t step : {7, 8, 1000}) EXPECT_TRUE(schedule.WeightsAt(step).empty()) << step;
  EXPECT_TRUE(FutureSchedule(proto::HeadConfig()).WeightsAt(1).empty());
}

TEST(FutureTokens, LossesAndGradientsFollowTheFormulas) {
  for (const char* settings : {kThreeLater, kLaterAndForm}) {
    for (const TinyOptions& head : LinearHeadsWith(settings)) {
      SCOPED_TRACE(head.Name());
      HeadPass pass(head);
      const double cap = TinyConfig(head).model().head().soft_cap();
      EXPECT_NEAR(pass.sums.loss, LossAt(pass, cap, 0), kFutureExact * pass.sums.loss);
      ASSERT_EQ(pass.sums.future.size(), 3);
      for (int64_t k = 1; k <= 3; ++k) {
        EXPECT_NEAR(pass.sums.future[static_cast<size_t>(k - 1)], LossAt(pass, cap, k), kFutureExact * pass.sums.loss);
      }
      const double energy = pass.gradient.squaredNorm() / (pass.scale * pass.scale);
      EXPECT_NEAR(pass.sums.energy[0], energy, kFutureExact * energy);
      EXPECT_LT(FutureError(pass.passed, pass.gradient * pass.weight), kFutureExact);
      const Matrix input =
          head.head_rank > 0 ? Matrix(pass.hidden * pass.Weight("head.down.weight").transpose()) : pass.hidden;
      EXPECT_LT(FutureError(pass.WeightGradient(), pass.gradient.transpose() * input), kFutureExact);
      // Each weight matters.
      for (const char* other : {"future { weights: [0.5, 0, 0] }", "future { weights: [0, 0, 1.25] }"}) {
        TinyOptions changed = head;
        changed.head = std::string(other) + head.head.substr(head.head.find('}') + 1);
        EXPECT_GT(FutureError(HeadPass(changed).passed, pass.passed), 1e-2);
      }
    }
  }
}

// This is one micro-batch of a head whose ordinary targets are those `offset` places later, up to the head's backward
// pass.
struct OffsetPass {
  double loss = 0;  // sum over the tokens
  std::vector<double> future;
  Matrix hidden, parameters;  // gradients
};

OffsetPass TrainAtOffset(const TinyOptions& options, int64_t offset) {
  Replica replica(options);
  TrainingModel& model = replica.model();
  ChunkedLoss& loss = model.loss();
  TokenBatch batch = MakeBatch(options, 1);
  const auto count = static_cast<int64_t>(batch.targets.size());
  const std::vector<int32_t> rows = WithFutureTargets(batch.targets, options.sequence_length, offset);
  batch.targets.assign(rows.end() - count, rows.end());
  const Tensor ids = PartOf(batch.ids, 0, 1), targets = loss.StepTargets(1, PartOf(batch.targets, 0, 1));
  EXPECT_TRUE(loss.BeginStep({.step = 1, .targets = targets}).ok());
  EXPECT_TRUE(model.backbone().Forward(ids).ok());
  EXPECT_TRUE(loss.ResetSums().ok());
  const Tensor grad_hidden = model.backbone().grad_hidden();
  const absl::Status trained = loss.Train({.hidden = model.backbone().hidden(),
                                           .targets = targets,
                                           .ids = ids,
                                           .scale = 1.0 / static_cast<double>(count),
                                           .grad_hidden = grad_hidden});
  EXPECT_TRUE(trained.ok()) << trained;
  const auto sums = loss.Sums();
  EXPECT_TRUE(sums.ok()) << sums.status();
  return {sums->loss, sums->future, MatrixOf(grad_hidden), MatrixOf(model.parameters().gradients())};
}

// The loss is linear in those of the offsets, of which each is that of a plain head with other targets. The classes of a
// sample depend on the targets, so a head that samples is not among these.
TEST(FutureTokens, GradientsAreTheSumOfThoseOfPlainHeads) {
  if (World().size() > 1) GTEST_SKIP() << "one rank shows it";
  const std::vector<TinyOptions> heads = AllHeads(kThreeLater), plain_heads = AllHeads("");
  const double weights[] = {1, 0.5, 0, 1.25};
  for (size_t i = 0; i < heads.size(); ++i) {
    if (heads[i].head_kind == "sampled") continue;
    SCOPED_TRACE(heads[i].Name());
    const OffsetPass found = TrainAtOffset(heads[i], 0);
    const bool by_offset = found.future.at(1) == 0;  // it leaves out the offset without weight
    EXPECT_EQ(by_offset, i >= 6);
    OffsetPass sum;
    for (int64_t k = 0; k <= 3; ++k) {
      const OffsetPass plain = TrainAtOffset(plain_heads[i], k);
      const double weight = weights[k];
      if (k == 0) {
        EXPECT_EQ(found.loss, plain.loss);
        sum = plain;
        continue;
      }
      sum.hidden += weight * plain.hidden;
      sum.parameters += weight * plain.parameters;
      if (by_offset && weight == 0) continue;
      EXPECT_NEAR(found.future[static_cast<size_t>(k - 1)], plain.loss, kFutureExact * plain.loss) << k;
    }
    EXPECT_LT(FutureError(found.hidden, sum.hidden), kFutureExact);
    EXPECT_LT(FutureError(found.parameters, sum.parameters), kFutureExact);
  }
}

TEST(FutureTokens, GradientsMatchFiniteDifferences) {
  if (World().size() > 1) GTEST_SKIP() << "one rank shows it";
  for (const char* settings : {kThreeLater, kLaterAndForm}) {
    for (const TinyOptions& head : AllHeads(settings)) EXPECT_LT(WorstGradientError(head), 1e-6) << head.Name();
  }
}

TEST(FutureTokens, EveryMeshTrainsAsOneRank) {
  const std::string form = "soft_cap: 2 z_loss: 0.01 ";
  TinyOptions factorised = LinearHeadsWith(kLaterInStages + form).back();
  ExpectSameTrainingOnEveryMesh(factorised);
  ExpectSameTrainingOnEveryMesh(FutureHead(kThreeLater, "", true));
  for (const TinyOptions& head : HeadsByOffset(std::string(kLaterInStages) + form)) ExpectSameTrainingOnEveryMesh(head);
  ExpectSameTrainingOnEveryMesh(HeadsByOffset(kThreeLater).back());
}

// Shards of the vocabulary have two sizes. The data ranks' tokens together are those of the rank alone.
TEST(FutureTokens, EveryMeshHasTheLossesOfOneRank) {
  for (TinyOptions head : AllHeads(kLaterInStages)) {
    for (head.tensor = 1; head.tensor <= 4; ++head.tensor) {
      head.data = World().size() / head.tensor;
      if (World().size() % head.tensor != 0 || head.data > 2) continue;
      SCOPED_TRACE(head.Name());
      Replica alone(head), meshed(head, &World());
      for (int64_t step = 1; step <= 8; ++step) {
        const bool measured = step % 2 == 1;
        const StepWithFigures expected = alone.Step(step, measured), found = meshed.Step(step, measured);
        EXPECT_NEAR(found.loss, expected.loss, kFutureExact * expected.loss) << step;
        ASSERT_EQ(found.head_losses.future.size(), measured && step < 7 ? 2 : 0) << step;
        for (size_t k = 0; k < found.head_losses.future.size(); ++k) {
          const auto &one = found.head_losses.future[k], &other = expected.head_losses.future[k];
          ASSERT_EQ(one.has_value(), other.has_value());
          EXPECT_NEAR(one.value_or(0), other.value_or(0), kFutureExact);
        }
      }
    }
  }
}

// The figures of the decomposition are of G of the whole loss, by singular value decompositions of W and of G.
TEST(FutureTokens, FiguresAreOfTheGradientOfTheWholeLoss) {
  if (World().size() > 1) GTEST_SKIP() << "one rank shows it";
  for (const char* settings : {kThreeLater, kLaterAndForm}) {
    for (const TinyOptions& head : LinearHeadsWith(settings)) {
      SCOPED_TRACE(head.Name());
      HeadPass pass(head);
      const Matrix& gradient = pass.gradient;
      const Eigen::BDCSVD<Eigen::MatrixXd> svd(pass.weight, Eigen::ComputeThinU);
      const Matrix basis = svd.matrixU().leftCols(pass.up.cols());
      const Matrix kept = gradient * basis * basis.transpose();
      const Matrix moved = gradient * pass.weight * pass.weight.transpose();
      double at_targets = 0;
      for (Eigen::Index n = 0; n < gradient.rows(); ++n) {
        at_targets += std::pow(gradient(n, pass.targets[static_cast<size_t>(n)]), 2);
      }
      Replica replica(head);
      const StepWithFigures step = replica.Step(1, /*measure_head=*/true);
      ASSERT_TRUE(step.head.has_value() && step.head->linear);
      const proto::HeadRecord& found = step.head->scalars;
      EXPECT_NEAR(found.logit_gradient_norm(), gradient.norm(), 1e-8 * gradient.norm());
      EXPECT_NEAR(found.visible_cosine(), kept.norm() / gradient.norm(), 1e-8);
      EXPECT_NEAR(found.target_energy_share(), at_targets / gradient.squaredNorm(), 1e-8);
      EXPECT_NEAR(found.hidden_update_cosine(), moved.cwiseProduct(gradient).sum() / (gradient.norm() * moved.norm()),
                  1e-8);
      EXPECT_LT(found.decomposition_error(), 1e-8);
      const Eigen::VectorXd values = Eigen::BDCSVD<Eigen::MatrixXd>(gradient).singularValues();
      ASSERT_GE(step.head->sampled_singular_values.size(), 5);
      for (size_t i = 0; i < 5; ++i) {
        const double value = values(static_cast<Eigen::Index>(i));
        EXPECT_NEAR(step.head->sampled_singular_values[i], value, 1e-8 * value);
      }
      for (int64_t k = 1; k <= 3; ++k) {
        EXPECT_NEAR(step.head_losses.future[static_cast<size_t>(k - 1)].value_or(0),
                    pass.scale * LossAt(pass, TinyConfig(head).model().head().soft_cap(), k), kFutureExact);
      }
    }
  }
}

TEST(FutureTokens, FiguresHoldOnEveryMesh) {
  const std::string form = "soft_cap: 2 z_loss: 0.01 ";
  ExpectSameFiguresOnEveryMesh(LinearHeadsWith(kLaterInStages + form).back());
  ExpectSameFiguresOnEveryMesh(OtherFusedHeads(kThreeLater)[0]);
  ExpectSameFiguresOnEveryMesh(OtherFusedHeads(kThreeLater)[1]);
  ExpectSameFiguresOnEveryMesh(HeadsByOffset(kThreeLater)[0]);
  // Losses on the head itself see G of the whole loss, too.
  ExpectSameFiguresOnEveryMesh(FutureHead(std::string(kThreeLater) + "orthogonality: 0.3 alignment: 0.7"));
  ExpectSameFiguresOnEveryMesh(FutureHead(std::string(kThreeLater) + "backward { kind: 'rank' rank: 5 }"));
}

TEST(FutureTokens, ResumesWithTheSameBitsAcrossStages) {
  ExpectResumeOnEveryMesh(FutureHead(kLaterInStages));
  for (const TinyOptions& head : HeadsByOffset(kLaterInStages)) ExpectResumeOnEveryMesh(head);
}

TEST(FutureTokens, PlansHold) {
  for (const TinyOptions& head :
       {FutureHead(kThreeLater), OtherFusedHeads(kThreeLater)[0], HeadsByOffset(kThreeLater)[0],
        HeadsByOffset(kThreeLater)[1], HeadsByOffset(kThreeLater)[2]}) {
    SCOPED_TRACE(head.Name());
    ExpectPlannedMemory(head);
    ExpectStatedProducts(head, /*rounding=*/1e-3);
    if (head.head_kind.empty()) ExpectPlannedCalls(head);
  }
}

TEST(FutureTokens, WeightsOfZeroGiveThePlainRunBitForBit) {
  if (World().size() > 1) GTEST_SKIP() << "one rank shows it";
  for (const TinyOptions& head : AllHeads("")) {
    for (const auto precision :
         {proto::PrecisionConfig::FP64, proto::PrecisionConfig::FP32, proto::PrecisionConfig::BF16}) {
      const auto train = [&](const char* future) {
        TinyOptions options = head;
        options.precision = precision;
        options.head = future + head.head;
        Replica replica(options);
        std::vector<double> losses;
        for (int64_t step = 1; step <= 4; ++step) losses.push_back(replica.Step(step, step == 2).loss);
        return losses;
      };
      SCOPED_TRACE(head.Name());
      const std::vector<double> plain = train(""), with = train("future { weights: [0, 0.5] } ");
      EXPECT_EQ(train("future { weights: [0, 0] } "), plain);
      EXPECT_EQ(with[0], plain[0]);  // the reported loss is that of the ordinary targets
      EXPECT_NE(with, plain);
    }
  }
}

TEST(FutureTokens, PrecisionsAgree) {
  if (World().size() > 1) GTEST_SKIP() << "one rank shows it";
  for (const TinyOptions& head : LinearHeadsWith(kLaterAndForm)) ExpectNarrowHeadsAgree(head);
  for (const TinyOptions& head : OtherFusedHeads(kThreeLater)) ExpectNarrowHeadsAgree(head);
  ExpectNarrowHeadsAgree(HeadsByOffset(kThreeLater)[0]);
  ExpectNarrowHeadsAgree(HeadsByOffset(kThreeLater)[2]);
}

// Training learns the later tokens only where they have weight.
TEST(FutureTokens, TrainingFollowsTheLaterTargets) {
  if (World().size() > 1) GTEST_SKIP() << "one rank shows it";
  for (const char* kind : {"full", "copy"}) {
    const auto later_loss = [&](const char* future) {
      Replica replica(FutureHead(future, kind));
      for (int64_t step = 1; step < 20; ++step) replica.Step(step);
      return *replica.Step(20, true).head_losses.future[0];
    };
    EXPECT_LT(later_loss("future { weights: [1] }"), 0.9 * later_loss("future { weights: [1e-9] }"));
  }
}

TEST(FutureTokens, EvaluationIsThatOfTheOrdinaryTargets) {
  if (World().size() > 1) GTEST_SKIP() << "one rank shows it";
  for (const TinyOptions& head : AllHeads("")) {
    const auto evaluate = [&](const char* future) {
      TinyOptions options = head;
      options.head = future + head.head;
      Replica replica(options);
      TokenBatch batch = MakeBatch(options, 1);
      return *replica.model().Evaluate(PartOf(batch.ids, 0, 1), PartOf(batch.targets, 0, 1));
    };
    EXPECT_EQ(evaluate(kThreeLater), evaluate("")) << head.Name();
  }
}

TEST(FutureTokens, TargetsThatAStepLacksAreAnError) {
  Replica replica(FutureHead(kThreeLater));
  TokenBatch batch = MakeBatch(replica.options(), 1);
  const absl::Status status = replica.model().loss().BeginStep({.step = 1, .targets = PartOf(batch.targets, 0, 1)});
  EXPECT_THAT(std::string(status.message()), HasSubstr("the head needs those of 3 later tokens, too"));
}

TEST(FutureTokens, WrongSettingsAreRefused) {
  const auto refusal = [](const std::string& stages) {
    return std::string(CheckHead(TinyConfig(FutureHead(stages)).model(), "here").message());
  };
  for (const char* right : {kThreeLater, kLaterInStages, "future { weights: [1, 1, 1, 1, 1, 1, 1, 1] }"}) {
    EXPECT_EQ(refusal(right), "");
  }
  for (const auto& [stages, wrong] :
       {std::pair("future { from_step: 2 weights: 1 }", "from_step: 2; accepts 1 for the first stage"),
        std::pair("future { weights: 1 } future { from_step: 1 weights: 1 }", "from_step: 1; accepts steps after 1"),
        std::pair("future { }", "weights: 0 numbers from step 1 on; accepts 1 to 8"),
        std::pair("future { weights: [1, 1, 1, 1, 1, 1, 1, 1, 1] }",
                  "weights: 9 numbers from step 1 on; accepts 1 to 8"),
        std::pair("future { weights: [1, 2] } future { from_step: 3 weights: 1 }",
                  "weights: 1 numbers from step 3 on; accepts 2, as many as the first stage has"),
        std::pair("future { weights: [1, -0.5] }", "weights: -0.5 from step 1 on; accepts finite numbers from 0 on"),
        std::pair("future { weights: inf }", "weights: inf from step 1 on; accepts finite numbers from 0 on"),
        std::pair("future { weights: nan }", "weights: nan from step 1 on; accepts finite numbers from 0 on")}) {
    EXPECT_EQ(refusal(stages), std::string("here: model.head.future: ") + wrong);
  }
}

}  // namespace
}  // namespace isthmus::testing
