// ranks: 1 2 4 6
// Tests of the losses on the head itself: model.head.orthogonality and model.head.alignment.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "model/algebra/matrix.h"
#include "model/heads/gradient/hooked_head.h"
#include "model/heads/heads.h"
#include "model/train/dry_run.h"
#include "runtime/philox.h"
#include "tests/support/head_pass.h"
#include "tests/support/mpi_world.h"
#include "tests/support/part_checks.h"

namespace isthmus::testing {
namespace {

using ::testing::HasSubstr;

constexpr double kExact = 1e-10;
const char* const kLosses[] = {
    "orthogonality: 0.3",
    "alignment: 0.7",
    "orthogonality: 0.3 alignment: 0.7",
    "orthogonality: 0.3 alignment: 0.7 backward { kind: 'rank' rank: 5 }",
    "alignment: 0.7 weight_gradient { kind: 'visible' match_norm: true }",
    "orthogonality: 0.3 weight_gradient { kind: 'lost' }",
};

bool NeedsOwnTable(const std::string& losses) { return losses.find("weight_gradient") != std::string::npos; }

// Vocabularies that ranks share unevenly; the factorised head has a rank below the width.
std::vector<TinyOptions> HeadsWith(const std::string& losses) {
  TinyOptions full = PartOptions();
  full.head = losses;
  TinyOptions tied = full, factorised = full;
  tied.tied = true;
  factorised.head_rank = 9;
  return SomeOf(NeedsOwnTable(losses) ? std::vector{full, factorised} : std::vector{full, tied, factorised});
}

double RelativeError(const Matrix& found, const Matrix& expected) {
  return (found - expected).norm() / expected.norm();
}

// A head W = U E; E is the identity for W = U.
struct Factors {
  Matrix up, down;
};

// ‖M/s - Π‖² / R
double OrthogonalityOf(const Matrix& weight, Eigen::Index rank) {
  const Matrix m = weight.transpose() * weight;
  const auto width = static_cast<double>(rank);
  // ‖Π‖² is R, and M Π is M.
  const double s = m.trace() / width;
  return (m.squaredNorm() / (s * s) - 2 * m.trace() / s + width) / width;
}

// The cosine of G and A Wᵀ.
double AlignmentOf(const Matrix& gradient, const Matrix& weight) {
  const Matrix moved = gradient * weight * weight.transpose();
  return moved.cwiseProduct(gradient).sum() / (gradient.norm() * moved.norm());
}

// The parts of the derivatives by W, each of which a wrong gradient might lack.
struct Parts {
  Matrix sum() const { return first + second + third; }
  Matrix first, second, third;
};

// They come from the norm, from s in it, and there is no third one.
Parts OrthogonalityParts(const Matrix& weight, Eigen::Index rank) {
  const Matrix m = weight.transpose() * weight;
  const auto width = static_cast<double>(rank);
  const double s = m.trace() / width;
  const Matrix distance = m / s - Matrix::Identity(m.rows(), m.cols());  // W Π is W
  const double through_s = distance.cwiseProduct(m).sum() / (s * s * width);
  return {weight * distance * (4 / (width * s)), -weight * (4 * through_s / width),
          Matrix::Zero(weight.rows(), weight.cols())};
}

// They come from ‖A‖², and from both W of A Wᵀ.
Parts AlignmentParts(const Matrix& gradient, const Matrix& weight) {
  const Matrix signal = gradient * weight, moved = signal * weight.transpose();
  const double norms = gradient.norm() * moved.norm(), squares = signal.squaredNorm();
  const double of_moved = -squares / (norms * moved.squaredNorm());
  return {gradient.transpose() * signal * (2 / norms), gradient.transpose() * moved * weight * of_moved,
          moved.transpose() * signal * of_moved};
}

class LossPass : public HeadPass {
 public:
  explicit LossPass(const TinyOptions& options, const std::function<void(ParameterStore&)>& change = nullptr)
      : HeadPass(options, change), factorised_(options.head_rank > 0) {
    factors.up = up;
    factors.down = factorised_ ? MatrixOf(Parameters().Weight("head.down.weight"))
                               : Matrix(Matrix::Identity(up.cols(), up.cols()));
  }

  // Returns what ChangeGradient adds to the gradients of U and E, and brings the gradients back.
  Factors Added() {
    const Matrix whole = WeightGradient(), whole_down = DownGradient();
    EXPECT_TRUE(model().loss().ChangeGradient(gradient.squaredNorm()).ok());
    Factors added{WeightGradient() - whole, DownGradient() - whole_down};
    EXPECT_TRUE(model().loss().RestoreGradient().ok());
    EXPECT_EQ(WeightGradient(), whole);
    EXPECT_EQ(DownGradient(), whole_down);
    return added;
  }
  // Returns the gradients of U and E that follow from that of W.
  Factors FromProduct(const Matrix& of_weight) const {
    return {of_weight * factors.down.transpose(),
            factorised_ ? Matrix(factors.up.transpose() * of_weight) : Matrix::Zero(1, 1)};
  }
  void ExpectSame(const Factors& found, const Matrix& of_weight, double tolerance) const {
    const Factors expected = FromProduct(of_weight);
    EXPECT_LT(RelativeError(found.up, expected.up), tolerance);
    if (factorised_) {
      EXPECT_LT(RelativeError(found.down, expected.down), tolerance);
    }
  }
  // Returns the smaller of the errors for U and for E.
  double LeastError(const Factors& found, const Matrix& of_weight) const {
    const Factors expected = FromProduct(of_weight);
    const double of_up = RelativeError(found.up, expected.up);
    return factorised_ ? std::min(of_up, RelativeError(found.down, expected.down)) : of_up;
  }

  Factors factors;

 private:
  const ParameterStore& Parameters() { return model().parameters(); }
  Matrix DownGradient() {
    return factorised_ ? MatrixOf(Parameters().Gradient("head.down.weight")) : Matrix::Zero(1, 1);
  }

  const bool factorised_;
};

TEST(HeadOrthogonality, FollowsItsFormula) {
  for (const TinyOptions& head : HeadsWith("orthogonality: 0.3")) {
    SCOPED_TRACE(head.Name());
    LossPass pass(head);
    const Parts parts = OrthogonalityParts(pass.weight, pass.up.cols());
    const Factors added = pass.Added();
    pass.ExpectSame(added, 0.3 * parts.sum(), kExact);
    EXPECT_GT(pass.LeastError(added, 0.3 * parts.first), 1e-2);
    EXPECT_GT(pass.LeastError(added, 0.3 * parts.second), 1e-2);
    const HeadLossValues losses = pass.model().loss().head_losses();
    EXPECT_NEAR(losses.orthogonality.value_or(-1), 0.3 * OrthogonalityOf(pass.weight, pass.up.cols()), kExact);
    EXPECT_FALSE(losses.alignment.has_value());
  }
}

TEST(HeadAlignment, FollowsItsFormula) {
  for (const TinyOptions& head : HeadsWith("alignment: 0.7")) {
    SCOPED_TRACE(head.Name());
    LossPass pass(head);
    const Parts parts = AlignmentParts(pass.gradient, pass.weight);
    const Factors added = pass.Added();
    pass.ExpectSame(added, -0.7 * parts.sum(), kExact);
    EXPECT_GT(pass.LeastError(added, -0.7 * (parts.second + parts.third)), 1e-2);
    EXPECT_GT(pass.LeastError(added, -0.7 * (parts.first + parts.third)), 1e-2);
    EXPECT_GT(pass.LeastError(added, -0.7 * (parts.first + parts.second)), 1e-2);
    const HeadLossValues losses = pass.model().loss().head_losses();
    EXPECT_NEAR(losses.alignment.value_or(1), -0.7 * AlignmentOf(pass.gradient, pass.weight), kExact);
    EXPECT_FALSE(losses.orthogonality.has_value());
  }
}

// G stays as it is while W changes. Differences know no formula of a derivative.
TEST(HeadLosses, GradientsMatchFiniteDifferences) {
  for (const char* losses : {"orthogonality: 0.3", "alignment: 0.7", "orthogonality: 0.3 alignment: 0.7"}) {
    for (const TinyOptions& head : HeadsWith(losses)) {
      SCOPED_TRACE(head.Name());
      LossPass pass(head);
      const proto::HeadConfig config = TinyConfig(head).model().head();
      const auto value = [&](const Factors& factors) {
        const Matrix weight = factors.up * factors.down;
        return config.orthogonality() * OrthogonalityOf(weight, pass.up.cols()) -
               config.alignment() * AlignmentOf(pass.gradient, weight);
      };
      const Factors added = pass.Added();
      for (const bool of_down : {false, true}) {
        if (of_down && head.head_rank == 0) continue;
        const Matrix& gradient = of_down ? added.down : added.up;
        Matrix direction = gradient;
        for (Eigen::Index i = 0; i < direction.size(); ++i) {
          direction.data()[i] = Philox::Normal(3, RandomPurpose::kTest, of_down ? 1 : 0, static_cast<uint64_t>(i));
        }
        // A random direction alone has little of a matrix's own.
        direction = direction / direction.norm() + gradient / gradient.norm();
        constexpr double kStep = 1e-5;
        double difference = 0;
        for (const double sign : {1.0, -1.0}) {
          Factors moved = pass.factors;
          (of_down ? moved.down : moved.up) += sign * kStep * direction;
          difference += sign * value(moved) / (2 * kStep);
        }
        const double expected = gradient.cwiseProduct(direction).sum();
        EXPECT_NEAR(difference, expected, 1e-6 * gradient.norm());
        EXPECT_GT(std::abs(expected), 0.1 * gradient.norm());
      }
    }
  }
}

TEST(HeadOrthogonality, VanishesIfAllSingularValuesAreAlike) {
  TinyOptions options = PartOptions();
  options.head = "orthogonality: 1";
  LossPass pass(options, [](ParameterStore& parameters) {
    const Tensor weight = parameters.Weight("head.weight");
    for (int64_t row = 0; row < weight.rows; ++row) {
      for (int64_t column = 0; column < weight.columns; ++column) {
        weight.Row<double>(row)[column] = row % weight.columns == column && row < 4 * weight.columns ? 0.7 : 0;
      }
    }
  });
  const Factors added = pass.Added();
  EXPECT_NEAR(pass.model().loss().head_losses().orthogonality.value_or(1), 0, 1e-12);
  EXPECT_LT(added.up.norm(), 1e-12);
}

TEST(HeadLosses, OfAHeadOfZerosAddNothing) {
  for (const TinyOptions& head : HeadsWith("orthogonality: 0.3 alignment: 0.7")) {
    if (head.tied) continue;
    SCOPED_TRACE(head.Name());
    LossPass pass(head, [&](ParameterStore& parameters) {
      const Tensor weight = parameters.Weight(head.head_rank > 0 ? "head.up.weight" : "head.weight");
      std::fill_n(weight.As<double>(), weight.size(), 0.0);
    });
    const Factors added = pass.Added();
    EXPECT_EQ(added.up.norm(), 0);
    EXPECT_EQ(added.down.norm(), 0);
    EXPECT_EQ(pass.model().loss().head_losses().alignment.value_or(1), 0);
  }
}

std::vector<double> TrainedLosses(Replica& replica, int64_t steps, int64_t measured = 0) {
  std::vector<double> losses;
  for (int64_t step = 1; step <= steps; ++step) losses.push_back(replica.Step(step, step == measured).loss);
  return losses;
}

const proto::PrecisionConfig::Kind kPrecisions[] = {proto::PrecisionConfig::FP64, proto::PrecisionConfig::FP32,
                                                    proto::PrecisionConfig::BF16};

TEST(HeadLosses, OfWeightZeroGiveThePlainRunsBits) {
  for (TinyOptions head : HeadsWith("")) {
    for (const auto precision : kPrecisions) {
      head.precision = precision;
      head.head = "";
      SCOPED_TRACE(head.Name());
      Replica plain(head);
      head.head = "orthogonality: 0 alignment: 0";
      Replica zero(head);
      head.head = "orthogonality: 0.3 alignment: 0.7";
      Replica with(head);
      const std::vector<double> expected = TrainedLosses(plain, 5);
      EXPECT_EQ(TrainedLosses(zero, 5), expected);
      const std::vector<double> other = TrainedLosses(with, 5);
      EXPECT_EQ(other[0], expected[0]);  // the reported loss is the cross-entropy
      EXPECT_NE(other, expected);
    }
  }
}

TEST(HeadLosses, EveryMeshTrainsAsOneRank) {
  for (const std::string losses : kLosses) {
    for (const int tensor : {1, 2, 3, 4}) {
      if (World().size() % tensor != 0 || World().size() / tensor > 2) continue;
      for (TinyOptions options : HeadsWith(losses)) {
        options.heads = tensor == 4 ? 8 : options.heads;
        options.tensor = tensor;
        options.data = World().size() / tensor;
        for (const bool sharded : {false, true}) {
          options.sequence_parallel = options.shard_optimizer = sharded;
          options.micro_batch = !sharded ? 0 : tensor == 4 ? 4 : 2;  // whose tokens the tensor ranks can share
          SCOPED_TRACE(options.Name());
          const int64_t steps = std::min<int64_t>(TestSteps(), 6);
          Replica alone(options), meshed(options, &World());
          const std::vector<double> expected = TrainedLosses(alone, steps, 2), found = TrainedLosses(meshed, steps, 2);
          for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(found[i], expected[i], kExact * expected[i]) << i;
        }
      }
    }
  }
}

// Micro-batches are summed up to the step's cosine, and not cosine by cosine.
TEST(HeadAlignment, IsThatOfTheWholeStep) {
  for (TinyOptions options : HeadsWith("alignment: 0.7")) {
    SCOPED_TRACE(options.Name());
    Replica whole(options);
    options.micro_batch = 1;
    Replica parts(options);
    const StepWithFigures expected = whole.Step(1, true), found = parts.Step(1, true);
    ASSERT_TRUE(found.head_losses.alignment.has_value());
    EXPECT_NEAR(*found.head_losses.alignment, -0.7 * found.head->scalars.hidden_update_cosine(), 1e-9);
    EXPECT_NEAR(*found.head_losses.alignment, *expected.head_losses.alignment, kExact);
    EXPECT_NEAR(parts.Step(2).loss, whole.Step(2).loss, kExact);
  }
}

TEST(HeadAlignment, ForgetsTheStepBefore) {
  for (const TinyOptions& head : HeadsWith("alignment: 0.7")) {
    SCOPED_TRACE(head.Name());
    LossPass pass(head);
    TrainingModel& model = pass.model();
    TokenBatch batch = MakeBatch(head, 1);
    const Tensor targets = PartOf(batch.targets, 0, 1);
    ASSERT_TRUE(model.loss().BeginStep({.step = 2, .targets = targets}).ok());
    const double scale = 1.0 / static_cast<double>(targets.columns);
    ASSERT_TRUE(model.loss()
                    .Train({.hidden = model.backbone().hidden(),
                            .targets = targets,
                            .scale = scale,
                            .grad_hidden = model.backbone().grad_hidden()})
                    .ok());
    pass.ExpectSame(pass.Added(), -0.7 * AlignmentParts(pass.gradient, pass.weight).sum(), kExact);
  }
}

// The gradient of a first step is known: it is that of the plain run.
TEST(HeadLosses, FiguresAreOfTheGradientAsItWasBackpropagated) {
  for (TinyOptions options : HeadsWith("")) {
    options.optimizer = "kind: 'sgd'";
    Replica plain(options);
    options.head = "orthogonality: 0.3 alignment: 0.7";
    SCOPED_TRACE(options.Name());
    Replica with(options);
    const StepWithFigures expected = plain.Step(1, true);
    const ParameterStore &whole = plain.model().parameters(), &found = with.model().parameters();
    const Matrix before = MatrixOf(found.weights());
    const StepWithFigures result = with.Step(1, true);
    EXPECT_EQ(MatrixOf(found.gradients()), MatrixOf(whole.gradients()));
    EXPECT_EQ(result.gradient_norm, expected.gradient_norm);
    EXPECT_EQ(result.head->scalars.gradient_norm(), expected.head->scalars.gradient_norm());
    EXPECT_EQ(result.head->scalars.update_cosine(), expected.head->scalars.update_cosine());
    const Matrix decrease = (before - MatrixOf(found.weights())).cwiseProduct(MatrixOf(whole.gradients()));
    ASSERT_TRUE(result.decrease.has_value());
    const double total = result.decrease->embedding + result.decrease->blocks + result.decrease->head;
    EXPECT_NEAR(total / decrease.sum(), 1, 1e-9);
    EXPECT_FALSE(expected.head_losses.orthogonality.has_value() || expected.head_losses.alignment.has_value());
  }
}

// With bf16 the decomposition takes A before it is rounded.
TEST(HeadLosses, FiguresOfBf16AreThePlainRuns) {
  for (TinyOptions options : HeadsWith("")) {
    options.precision = proto::PrecisionConfig::BF16;
    SCOPED_TRACE(options.Name());
    Replica plain(options);
    options.head = "orthogonality: 0.3 alignment: 0.7";
    Replica with(options);
    const HeadFigures expected = *plain.Step(1, true).head, found = *with.Step(1, true).head;
    EXPECT_EQ(found.scalars.visible_cosine(), expected.scalars.visible_cosine());
    EXPECT_EQ(found.scalars.hidden_update_cosine(), expected.scalars.hidden_update_cosine());
    EXPECT_EQ(found.scalars.update_cosine(), expected.scalars.update_cosine());
  }
}

// Clipping scales what the losses add as it scales B, by a factor that B's norm alone decides.
TEST(HeadLosses, AreClippedWithTheGradient) {
  TinyOptions options = PartOptions();
  options.head = "orthogonality: 0.3 alignment: 0.7";
  const auto change = [&](double clip_norm) {
    options.optimizer = "kind: 'sgd' weight_decay: 0 clip_norm: " + std::to_string(clip_norm);
    Replica replica(options);
    const Tensor weights = replica.model().parameters().Weight("head.weight");
    const Matrix before = MatrixOf(weights);
    const double norm = replica.Step(1).gradient_norm;
    return std::pair(Matrix(MatrixOf(weights) - before), norm);
  };
  const auto [whole, norm] = change(0);
  const auto [clipped, same_norm] = change(0.125);
  ASSERT_GT(norm, 0.125);
  EXPECT_EQ(same_norm, norm);
  EXPECT_LT(RelativeError(clipped, whole * (0.125 / norm)), 1e-9);
}

TEST(HeadLosses, MeasuredStepsTrainTheSameBits) {
  for (const auto precision : kPrecisions) {
    for (const std::string losses : kLosses) {
      for (TinyOptions options : HeadsWith(losses)) {
        options.precision = precision;
        SCOPED_TRACE(options.Name());
        Replica measured(options), unmeasured(options);
        EXPECT_EQ(TrainedLosses(measured, 3, /*measured=*/1), TrainedLosses(unmeasured, 3));
      }
    }
  }
}

// Three precisions agree as far as they can over a few steps.
TEST(HeadLosses, PrecisionsAgree) {
  for (const std::string losses : kLosses) {
    for (TinyOptions options : HeadsWith(losses)) {
      options.tensor = World().size();
      if (options.tensor > 3) continue;
      SCOPED_TRACE(options.Name());
      options.precision = proto::PrecisionConfig::FP64;
      Replica exact(options, &World());
      const StepWithFigures first = exact.Step(1, true);
      std::vector<double> expected = {first.loss};
      for (int64_t step = 2; step <= 4; ++step) expected.push_back(exact.Step(step).loss);
      for (const auto& [precision, tolerance] :
           {std::pair(proto::PrecisionConfig::FP32, 1e-4), std::pair(proto::PrecisionConfig::BF16, 1e-2)}) {
        options.precision = precision;
        Replica narrow(options, &World());
        const StepWithFigures found = narrow.Step(1, true);
        EXPECT_NEAR(found.head_losses.orthogonality.value_or(0), first.head_losses.orthogonality.value_or(0),
                    tolerance);
        EXPECT_NEAR(found.head_losses.alignment.value_or(0), first.head_losses.alignment.value_or(0), tolerance);
        EXPECT_NEAR(found.loss, expected[0], tolerance * expected[0]);
        for (size_t i = 1; i < expected.size(); ++i) {
          EXPECT_NEAR(narrow.Step(static_cast<int64_t>(i) + 1).loss, expected[i], tolerance * expected[i]) << i;
        }
      }
    }
  }
}

TEST(HeadLosses, PlansCheckpointsAndFiguresHold) {
  if (World().size() > 3) GTEST_SKIP() << "two and three ranks show it";
  for (const std::string losses : {kLosses[0], kLosses[1], kLosses[2]}) {
    for (const TinyOptions& options : HeadsWith(losses)) {
      SCOPED_TRACE(options.Name());
      ExpectPlannedMemory(options);
      ExpectPlannedCalls(options);
      ExpectResumeOnEveryMesh(options);
      ExpectSameFiguresOnEveryMesh(options);
    }
  }
}

// A plan's operations per token are those that a dry run records, and those of each step beside them.
TEST(HeadAlignment, StatesItsOperations) {
  for (TinyOptions options : HeadsWith("orthogonality: 1")) {
    if (options.head_rank > 0) continue;
    const auto products = [&](const std::string& losses) {
      options.head = losses;
      const auto work = RecordStep(TinyConfig(options), {});
      EXPECT_TRUE(work.ok()) << work.status();
      const std::vector<int64_t> counts = work->OperatorCounts();
      double flops = 0;
      for (size_t i = 0; i < counts.size(); ++i) {
        const OperatorCost& cost = work->operators[i].cost;
        if (cost.kind == OperatorCost::Kind::kProduct) flops += cost.flops * static_cast<double>(counts[i]);
      }
      return flops;
    };
    const double more = products("orthogonality: 1 alignment: 1") - products("orthogonality: 1");
    Replica replica(options);
    options.head = "orthogonality: 1 alignment: 1";
    Replica with(options);
    const double stated =
        with.model().loss().MoreBackwardFlopsPerToken() - replica.model().loss().MoreBackwardFlopsPerToken();
    const auto tokens = static_cast<double>(options.sequences * options.sequence_length);
    const auto rank = static_cast<double>(options.width), vocabulary = static_cast<double>(options.vocabulary);
    EXPECT_NEAR(more, tokens * stated + 2 * vocabulary * rank * rank, 1);
  }
}

double OrthogonalityAfterTraining(TinyOptions options, const std::string& losses, double& cosine) {
  options.head = losses;
  Replica replica(options);
  constexpr int64_t kSteps = 20;
  for (int64_t step = 1; step < kSteps; ++step) replica.Step(step);
  cosine = replica.Step(kSteps, true).head->scalars.hidden_update_cosine();
  const auto view = replica.model().loss().View();
  EXPECT_TRUE(view.ok());
  const Matrix up = MatrixOf(view->weight);
  return OrthogonalityOf(view->down == nullptr ? up : Matrix(up * MatrixOf(view->down->weight)), up.cols());
}

TEST(HeadLosses, TrainingFollowsThem) {
  if (World().size() > 1) GTEST_SKIP() << "one rank shows it";
  for (const TinyOptions& head : HeadsWith("")) {
    SCOPED_TRACE(head.Name());
    double plain_cosine = 0, flat_cosine = 0, aligned_cosine = 0;
    const double plain = OrthogonalityAfterTraining(head, "", plain_cosine);
    const double flat = OrthogonalityAfterTraining(head, "orthogonality: 1", flat_cosine);
    OrthogonalityAfterTraining(head, "alignment: 1", aligned_cosine);
    EXPECT_LT(flat, 0.9 * plain);
    EXPECT_GT(aligned_cosine, plain_cosine + 0.005);
    std::printf("orthogonality %g, with its loss %g; cosine %g, %g, with alignment %g\n", plain, flat, plain_cosine,
                flat_cosine, aligned_cosine);
  }
}

TEST(HeadLosses, WrongSettingsAreRefused) {
  const auto refusal = [](const std::string& field, double weight) {
    proto::ModelConfig config = TinyConfig(PartOptions()).model();
    (field == "orthogonality" ? config.mutable_head()->set_orthogonality(weight)
                              : config.mutable_head()->set_alignment(weight));
    return std::string(CheckHead(config, "here").message());
  };
  for (const std::string field : {"orthogonality", "alignment"}) {
    EXPECT_EQ(refusal(field, 0.5), "");
    for (const auto& [weight, found] :
         {std::pair(-0.5, "-0.5"), std::pair(std::numeric_limits<double>::infinity(), "inf"),
          std::pair(std::numeric_limits<double>::quiet_NaN(), "nan")}) {
      EXPECT_EQ(refusal(field, weight),
                "here: model.head." + field + ": " + found + "; accepts 0 (off) and finite numbers above");
    }
    proto::ModelConfig config = TinyConfig(PartOptions()).model();
    EXPECT_EQ(CheckHooks(config, {.name = "other"}), "");
    (field == "orthogonality" ? config.mutable_head()->set_orthogonality(1) : config.mutable_head()->set_alignment(1));
    EXPECT_THAT(CheckHooks(config, {.name = "other"}), HasSubstr("model.head.kind: other; its logits are no product"));
  }
}

}  // namespace
}  // namespace isthmus::testing
