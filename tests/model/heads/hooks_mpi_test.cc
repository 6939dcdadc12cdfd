// ranks: 1 2 4 6
// Tests of the gradient on its way back: what a head passes back, and the part of its own that the optimizer gets.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/manifest.h"
#include "checkpoint/weights.h"
#include "model/algebra/matrix.h"
#include "model/heads/heads.h"
#include "tests/support/head_pass.h"
#include "tests/support/mpi_world.h"
#include "tests/support/one_rank.h"
#include "tests/support/part_checks.h"
#include "tests/support/program.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;

constexpr double kRounding = 1e-10;

double Distance(const Matrix& found, const Matrix& expected) { return (found - expected).norm() / expected.norm(); }

Matrix ScaledTo(const Matrix& x, const Matrix& model) { return x * (model.norm() / x.norm()); }

TinyOptions With(TinyOptions options, const std::string& head) {
  options.head = head;
  return options;
}

// Vocabularies that ranks share unevenly; factorised heads have a rank below the width.
std::vector<TinyOptions> HookedHeads(bool with_tied = true) {
  TinyOptions full = PartOptions(), tied = full, factorised = full;
  tied.tied = true;
  factorised.head_rank = 9;
  return SomeOf(with_tied ? std::vector{full, tied, factorised} : std::vector{full, factorised});
}

const char* const kHooks[] = {
    "backward { kind: 'preconditioned' damping: 0.1 }",
    "backward { kind: 'preconditioned' match_norm: false }",
    "backward { kind: 'rank' rank: 5 }",
    "backward { kind: 'rank' rank: 5 match_norm: true interval: 2 }",
    "backward { kind: 'random' }",
    "backward { kind: 'dense_feedback' match_norm: true }",
};
const char* const kWeightGradients[] = {
    "weight_gradient { kind: 'visible' match_norm: true }",
    "weight_gradient { kind: 'lost' }",
    "backward { kind: 'dense_feedback' } weight_gradient { kind: 'visible' }",
};

TEST(HeadBackward, PreconditionedFollowsItsFormula) {
  for (const TinyOptions& head : HookedHeads()) {
    for (const bool match : {false, true}) {
      SCOPED_TRACE(head.Name());
      HeadPass pass(With(head, std::string("backward { kind: 'preconditioned' damping: 0.05 match_norm: ") +
                                   (match ? "true }" : "false }")));
      const Matrix plain = pass.gradient * pass.weight;
      Matrix m = pass.weight.transpose() * pass.weight;
      m.diagonal().array() += 0.05 * m.trace() / static_cast<double>(m.rows());
      const Matrix expected = plain * m.inverse();
      EXPECT_LT(Distance(pass.passed, match ? ScaledTo(expected, plain) : expected), kRounding);
    }
  }
}

// As λ vanishes the logits move along the part of G that the head passes on.
TEST(HeadBackward, PreconditioningTurnsTheChangeOfTheLogitsToThePartThatIsPassedOn) {
  HeadPass pass(With(PartOptions(), "backward { kind: 'preconditioned' damping: 1e-9 }"));
  const Eigen::BDCSVD<Eigen::MatrixXd> svd(pass.weight, Eigen::ComputeThinU);
  const Matrix visible = pass.gradient * svd.matrixU() * svd.matrixU().transpose();
  const Matrix moved = pass.passed * pass.weight.transpose(),
               plain = pass.gradient * pass.weight * pass.weight.transpose();
  const auto cosine = [&](const Matrix& m) {
    return (m.array() * visible.array()).sum() / (m.norm() * visible.norm());
  };
  EXPECT_GT(cosine(moved), 1 - 1e-9);
  EXPECT_LT(cosine(plain), 0.999);
}

TEST(HeadBackward, OfRankFollowsEckartAndYoung) {
  for (const TinyOptions& head : HookedHeads()) {
    for (const bool match : {false, true}) {
      SCOPED_TRACE(head.Name());
      HeadPass pass(With(head, std::string("backward { kind: 'rank' rank: 5 ") + (match ? "match_norm: true }" : "}")));
      const Eigen::BDCSVD<Eigen::MatrixXd> svd(pass.weight, Eigen::ComputeThinU | Eigen::ComputeThinV);
      const Matrix best =
          svd.matrixU().leftCols(5) * svd.singularValues().head(5).asDiagonal() * svd.matrixV().leftCols(5).transpose();
      const Matrix expected = pass.gradient * best;
      EXPECT_LT(Distance(pass.passed, match ? ScaledTo(expected, pass.gradient * pass.weight) : expected), kRounding);
    }
  }
}

TEST(HeadBackward, FeedbackFollowsItsFormula) {
  for (const TinyOptions& head : HookedHeads()) {
    for (const std::string kind : {"random", "dense_feedback"}) {
      for (const bool match : {false, true}) {
        SCOPED_TRACE(head.Name() + kind);
        HeadPass pass(With(head, "backward { kind: '" + kind + (match ? "' match_norm: true }" : "' }")));
        const ParameterStore& parameters = pass.model().parameters();
        const Matrix feedback = MatrixOf(parameters.Weight("head.feedback.weight"));
        const Matrix expected = pass.gradient * feedback;
        EXPECT_LT(Distance(pass.passed, match ? ScaledTo(expected, pass.gradient * pass.weight) : expected), kRounding);
        EXPECT_GT(Distance(feedback, pass.weight), 0.5);
        const Matrix learnt = MatrixOf(parameters.Gradient("head.feedback.weight"));
        if (kind == "random") {
          EXPECT_EQ(learnt.norm(), 0);
        } else {
          EXPECT_LT(Distance(learnt, pass.gradient.transpose() * pass.hidden), kRounding);
        }
      }
    }
  }
}

// The forward pass, the head's own gradients and what the decomposition sees stay as they are.
TEST(HeadBackward, NothingElseChanges) {
  for (const TinyOptions& head : HookedHeads(/*with_tied=*/false)) {
    HeadPass plain(head);
    for (const char* hook : kHooks) {
      SCOPED_TRACE(hook);
      HeadPass pass(With(head, hook));
      EXPECT_EQ(pass.hidden, plain.hidden);
      EXPECT_EQ(pass.signal, plain.signal);
      EXPECT_EQ(pass.WeightGradient(), plain.WeightGradient());
      EXPECT_GT(Distance(pass.passed, plain.passed), 1e-2);
    }
  }
}

// With bf16 the decomposition takes A before it is rounded.
TEST(HeadBackward, FiguresOfBf16AreThePlainRuns) {
  for (const TinyOptions& head : HookedHeads()) {
    TinyOptions options = head;
    options.precision = proto::PrecisionConfig::BF16;
    Replica plain(options);
    const HeadFigures expected = *plain.Step(1, true).head;
    for (const char* hook : kHooks) {
      SCOPED_TRACE(options.Name());
      Replica hooked(With(options, hook));
      const HeadFigures found = *hooked.Step(1, true).head;
      EXPECT_EQ(found.scalars.visible_cosine(), expected.scalars.visible_cosine());
      EXPECT_EQ(found.scalars.hidden_update_cosine(), expected.scalars.hidden_update_cosine());
    }
  }
}

std::vector<double> LossesOf(Replica& replica, int64_t steps,
                             const std::function<void(ParameterStore&)>& before = nullptr) {
  std::vector<double> losses;
  for (int64_t step = 1; step <= steps; ++step) {
    if (before) before(replica.model().parameters());
    losses.push_back(replica.Step(step).loss);
  }
  return losses;
}

TEST(HeadBackward, OfTheWholeRankIsThePlainRun) {
  for (const TinyOptions& head : HookedHeads()) {
    SCOPED_TRACE(head.Name());
    Replica plain(head), whole(With(head, "backward { kind: 'rank' rank: 24 }"));
    const std::vector<double> expected = LossesOf(plain, TestSteps()), found = LossesOf(whole, TestSteps());
    for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(found[i], expected[i], kRounding * expected[i]) << i;
  }
}

TEST(HeadBackward, FeedbackByTheHeadItselfGivesThePlainRunsBits) {
  for (const auto precision :
       {proto::PrecisionConfig::FP64, proto::PrecisionConfig::FP32, proto::PrecisionConfig::BF16}) {
    TinyOptions head = PartOptions();
    head.precision = precision;
    Replica plain(head), fed(With(head, "backward { kind: 'random' }"));
    const auto copy = [](ParameterStore& parameters) {
      const Tensor from = parameters.Weight("head.weight"), to = parameters.Weight("head.feedback.weight");
      std::memcpy(to.data, from.data, static_cast<size_t>(from.bytes()));
    };
    EXPECT_EQ(LossesOf(fed, TestSteps(), copy), LossesOf(plain, TestSteps()))
        << proto::PrecisionConfig::Kind_Name(precision);
  }
}

TEST(HeadBackward, RandomFeedbackStaysAsItWasDrawn) {
  TinyOptions options = With(PartOptions(), "backward { kind: 'random' }");
  options.optimizer = "weight_decay: 0.5";
  Replica replica(options);
  const Tensor feedback = replica.model().parameters().Weight("head.feedback.weight");
  const Matrix drawn = MatrixOf(feedback);
  LossesOf(replica, 3);
  EXPECT_EQ(MatrixOf(feedback), drawn);
}

TEST(HeadWeightGradient, PartsAreProjectionsOfG) {
  for (const TinyOptions& head : HookedHeads(/*with_tied=*/false)) {
    for (const bool deficient : {false, true}) {
      for (const std::string kind : {"visible", "lost"}) {
        for (const bool match : {false, true}) {
          SCOPED_TRACE(head.Name() + kind);
          const auto change = [&](ParameterStore& parameters) {
            const Tensor weight = parameters.Weight(head.head_rank > 0 ? "head.up.weight" : "head.weight");
            for (int64_t row = 0; deficient && row < weight.rows; ++row) {
              weight.Row<double>(row)[3] = -weight.Row<double>(row)[1];
            }
          };
          HeadPass pass(With(head, "weight_gradient { kind: '" + kind + (match ? "' match_norm: true }" : "' }")),
                        change);
          const Matrix whole = pass.WeightGradient();
          ASSERT_TRUE(pass.model().loss().ChangeGradient(pass.gradient.squaredNorm()).ok());
          const Eigen::Index rank = pass.up.cols() - (deficient ? 1 : 0);
          const Eigen::BDCSVD<Eigen::MatrixXd> svd(pass.up, Eigen::ComputeThinU);
          const Matrix basis = svd.matrixU().leftCols(rank), visible = pass.gradient * basis * basis.transpose();
          const Matrix part = kind == "visible" ? visible : Matrix(pass.gradient - visible);
          // This enters U: H, or H Eᵀ.
          Matrix entering = pass.hidden;
          if (head.head_rank > 0) {
            const ParameterStore& parameters = pass.model().parameters();
            entering = pass.hidden * MatrixOf(parameters.Weight("head.down.weight")).transpose();
            const Matrix down = MatrixOf(parameters.Gradient("head.down.weight"));
            const Matrix of_down = (part * pass.up).transpose() * pass.hidden;
            if (kind == "lost") {
              EXPECT_EQ(down.norm(), 0);
              EXPECT_LT(of_down.norm(), kRounding);
            } else {
              EXPECT_LT(Distance(down, of_down), kRounding);
            }
          }
          const Matrix expected = part.transpose() * entering;
          const Matrix found = pass.WeightGradient();
          EXPECT_LT(Distance(found, match ? ScaledTo(expected, whole) : expected), 1e-8);
          EXPECT_GT(Distance(found, whole), 1e-2);
          ASSERT_TRUE(pass.model().loss().RestoreGradient().ok());
          EXPECT_EQ(pass.WeightGradient(), whole);
        }
      }
    }
  }
}

// The gradient of a first step is known: it is that of the plain run.
TEST(HeadWeightGradient, FiguresAreOfTheGradientAsItWasBackpropagated) {
  for (const TinyOptions& head : HookedHeads(/*with_tied=*/false)) {
    for (const char* hook : {"weight_gradient { kind: 'visible' }", "weight_gradient { kind: 'lost' }"}) {
      TinyOptions options = With(head, hook);
      options.optimizer = "kind: 'sgd'";
      SCOPED_TRACE(options.Name());
      Replica plain(head), hooked(options);
      plain.Step(1);
      const ParameterStore &whole = plain.model().parameters(), &found = hooked.model().parameters();
      const Matrix before = MatrixOf(found.weights());
      const StepWithFigures result = hooked.Step(1, true);
      EXPECT_EQ(MatrixOf(found.gradients()), MatrixOf(whole.gradients()));
      const Matrix decrease = (before - MatrixOf(found.weights())).cwiseProduct(MatrixOf(whole.gradients()));
      ASSERT_TRUE(result.decrease.has_value());
      const double total = result.decrease->embedding + result.decrease->blocks + result.decrease->head;
      EXPECT_NEAR(total / decrease.sum(), 1, 1e-9);
    }
  }
}

// The figures of a measured step are those of the gradient as it was backpropagated.
TEST(HeadWeightGradient, MeasuredStepsTrainTheSameBits) {
  for (const char* hook : kWeightGradients) {
    SCOPED_TRACE(hook);
    TinyOptions options = With(PartOptions(), hook);
    options.tensor = 1;
    Replica measured(options), unmeasured(options), plain(PartOptions());
    const StepWithFigures first = measured.Step(1, true);
    unmeasured.Step(1);
    const HeadFigures expected = *plain.Step(1, true).head;
    if (std::string(hook).find("backward") == std::string::npos) {
      EXPECT_EQ(first.head->scalars.update_cosine(), expected.scalars.update_cosine());
      EXPECT_EQ(first.head->scalars.gradient_norm(), expected.scalars.gradient_norm());
    }
    EXPECT_EQ(first.head->scalars.visible_cosine(), expected.scalars.visible_cosine());
    EXPECT_EQ(measured.Step(2).loss, unmeasured.Step(2).loss);
  }
}

std::vector<TinyOptions> HookedMeshes(const std::string& hook) {
  std::vector<TinyOptions> meshes;
  const bool tied_too = hook.find("weight_gradient") == std::string::npos;
  for (const int tensor : {1, 2, 3, 4}) {
    if (World().size() % tensor != 0 || World().size() / tensor > 2) continue;
    for (const TinyOptions& head : HookedHeads(tied_too)) {
      TinyOptions options = With(head, hook);
      options.heads = tensor == 4 ? 8 : options.heads;
      options.tensor = tensor;
      options.data = World().size() / tensor;
      for (const bool sharded : {false, true}) {
        options.sequence_parallel = options.shard_optimizer = sharded;
        meshes.push_back(options);
      }
    }
  }
  return meshes;
}

TEST(HeadBackward, EveryMeshTrainsAsOneRank) {
  for (const char* hook : kHooks)
    ExpectLossesOfOneRank(World(), HookedMeshes(hook), std::min<int64_t>(TestSteps(), 6), kRounding);
}

TEST(HeadWeightGradient, EveryMeshTrainsAsOneRank) {
  for (const char* hook : kWeightGradients)
    ExpectLossesOfOneRank(World(), HookedMeshes(hook), std::min<int64_t>(TestSteps(), 6), kRounding);
}

// Three precisions agree as far as they can over a few steps.
TEST(HeadBackward, PrecisionsAgree) {
  std::vector<std::string> hooks(std::begin(kHooks), std::end(kHooks));
  hooks.insert(hooks.end(), std::begin(kWeightGradients), std::end(kWeightGradients));
  for (const std::string& hook : hooks) {
    SCOPED_TRACE(hook);
    TinyOptions options = With(PartOptions(), hook);
    options.tensor = World().size();
    if (options.tensor > 3) continue;
    Replica exact(options, &World());
    const std::vector<double> expected = LossesOf(exact, 4);
    for (const auto& [precision, tolerance] :
         {std::pair(proto::PrecisionConfig::FP32, 1e-4), std::pair(proto::PrecisionConfig::BF16, 1e-2)}) {
      options.precision = precision;
      Replica narrow(options, &World());
      const std::vector<double> found = LossesOf(narrow, 4);
      for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(found[i], expected[i], tolerance * expected[i]) << i;
    }
  }
}

TEST(HeadBackward, PlansCheckpointsAndFiguresHold) {
  if (World().size() > 3) GTEST_SKIP() << "two and three ranks show it";
  for (const char* hook :
       {"backward { kind: 'preconditioned' }", "backward { kind: 'rank' rank: 5 interval: 2 match_norm: true }",
        "backward { kind: 'random' }", "backward { kind: 'dense_feedback' }",
        "weight_gradient { kind: 'visible' match_norm: true }", "weight_gradient { kind: 'lost' }"}) {
    for (const TinyOptions& head : HookedHeads(/*with_tied=*/false)) {
      const TinyOptions options = With(head, hook);
      SCOPED_TRACE(options.Name());
      ExpectPlannedMemory(options);
      ExpectPlannedCalls(options);
      ExpectResumeOnEveryMesh(options);
      ExpectSameFiguresOnEveryMesh(options);
    }
  }
}

// M of the later weights must not outlive a return to earlier ones.
TEST(HeadBackward, AMatrixIsFoundAnewAfterARollback) {
  for (const char* hook :
       {"backward { kind: 'rank' rank: 5 interval: 3 }", "backward { kind: 'preconditioned' interval: 3 }"}) {
    SCOPED_TRACE(hook);
    const TinyOptions options = With(PartOptions(), hook);
    Replica begun(options), resumed(options, nullptr, /*seed=*/99);
    begun.Step(1);
    begun.Step(2);
    const TemporaryFolder folder;
    CheckpointContents contents;
    contents.manifest.set_step(2);
    const std::string path = folder.path() + "/checkpoint";
    const auto saved =
        SaveCheckpoint(path, contents, begun.model().parameters(), begun.mesh(), &begun.model().optimizer());
    ASSERT_TRUE(saved.ok()) << saved.status();
    const auto manifest = ReadManifest(path);
    ASSERT_TRUE(manifest.ok()) << manifest.status();
    begun.Step(3);
    begun.Step(4);
    for (Replica* replica : {&begun, &resumed}) {
      const absl::Status loaded =
          LoadTrainingState(path, *manifest, replica->model().parameters(), replica->model().optimizer());
      ASSERT_TRUE(loaded.ok()) << loaded;
    }
    for (int64_t step = 3; step <= 5; ++step) EXPECT_EQ(begun.Step(step).loss, resumed.Step(step).loss) << step;
  }
}

TEST(HeadBackward, WrongSettingsAreRefused) {
  const auto refusal = [](const std::string& head, bool tied = false) {
    TinyOptions options = With(PartOptions(), head);
    options.tied = tied;
    return std::string(CheckHead(TinyConfig(options).model(), "here").message());
  };
  EXPECT_EQ(refusal("backward { kind: 'plain' } weight_gradient { kind: 'full' }"), "");
  EXPECT_EQ(
      refusal("backward { kind: 'sharp' }"),
      "here: model.head.backward.kind: found \"sharp\"; accepts plain, preconditioned, rank, random, dense_feedback");
  EXPECT_THAT(refusal("backward { kind: 'rank' }"),
              HasSubstr("model.head.backward.rank: 0; accepts 1 to model.width (24)"));
  EXPECT_THAT(refusal("backward { kind: 'rank' rank: 25 }"), HasSubstr("model.head.backward.rank: 25; accepts"));
  EXPECT_THAT(refusal("backward { kind: 'preconditioned' damping: 0 }"),
              HasSubstr("damping: 0; accepts numbers above 0"));
  EXPECT_THAT(refusal("backward { kind: 'preconditioned' damping: nan }"), HasSubstr("damping: nan; accepts"));
  EXPECT_THAT(refusal("backward { kind: 'preconditioned' interval: 0 }"),
              HasSubstr("interval: 0; accepts 1 step and more"));
  EXPECT_THAT(refusal("weight_gradient { kind: 'half' }"), HasSubstr("found \"half\"; accepts full, visible, lost"));
  EXPECT_THAT(refusal("weight_gradient { kind: 'lost' }", /*tied=*/true), HasSubstr("needs a head of its own"));
}

}  // namespace
}  // namespace isthmus::testing
