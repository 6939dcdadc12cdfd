// ranks: 1 2 3
// Tests of the shares of single tokens' gradients that a change of their hidden states can follow.
#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "model/algebra/matrix.h"
#include "model/heads/heads.h"
#include "model/heads/levels/level_jacobians.h"
#include "model/heads/levels/two_levels.h"
#include "model/heads/lm_head.h"
#include "model/heads/pointer/pointer_jacobians.h"
#include "model/heads/token_jacobians.h"
#include "model/measure/visible_share_sum.h"
#include "ops/loss_form.h"
#include "parallel/shard.h"
#include "tests/support/head_pass.h"
#include "tests/support/mpi_world.h"
#include "tests/support/part_checks.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

using Cosines = std::pair<double, double>;  // by the logits, and by the log-probabilities

// The matrices and tokens of tools/golden/visible_shares.py.
constexpr int64_t kVocabulary = 23, kWidth = 5;
const std::vector<int32_t> kTargets = {3, 1, 7, 22};

Matrix Waves(int64_t rows, int64_t columns, double phase) {
  Matrix matrix(rows, columns);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      matrix(i, j) = std::sin(phase + 7.3 * static_cast<double>(i) + 2.9 * static_cast<double>(j * j));
    }
  }
  return matrix;
}

// The rows of this rank of World().
Range Own(int64_t rows) { return ShardOf(rows, World().size(), World().rank()); }
Matrix OwnRows(const Matrix& matrix) {
  const Range own = Own(matrix.rows());
  return matrix.middleRows(own.begin, own.size());
}

// All tokens of a micro-batch.
PlacedTokens AllOf(Matrix& hidden, const std::vector<int32_t>& targets) {
  std::vector<int64_t> places(targets.size());
  std::iota(places.begin(), places.end(), 0);
  return PlacedTokens::Of(TensorOf(hidden), std::move(places), targets, Stream()).value();
}

VisibleShares SharesOf(TokenJacobians& jacobians, const PlacedTokens& tokens, Communicator& tensor) {
  VisibleShareSum sum(tensor);
  const absl::Status status = sum.Add(jacobians, tokens);
  EXPECT_TRUE(status.ok()) << status;
  return sum.shares();
}

Cosines CosinesOf(TokenJacobians& jacobians, const PlacedTokens& tokens) {
  const VisibleShares shares = SharesOf(jacobians, tokens, World());
  EXPECT_EQ(shares.tokens, 4);
  return {shares.logits.cosine(), shares.log_probabilities.cosine()};
}
Cosines CosinesOf(TokenJacobians& jacobians) {
  Matrix hidden = Waves(4, kWidth, 0.7);
  return CosinesOf(jacobians, AllOf(hidden, kTargets));
}

void ExpectCosines(const Cosines& found, const Cosines& expected) {
  EXPECT_NEAR(found.first, expected.first, 1e-11);
  EXPECT_NEAR(found.second, expected.second, 1e-11);
}

// The values that the script prints.
TEST(VisibleShares, AreThoseOfExplicitJacobians) {
  Stream stream;
  Matrix up = OwnRows(Waves(kVocabulary, kWidth, 0.3)), clusters = OwnRows(Waves(3, kWidth, 1.1));
  const HeadView full = {.rows = Own(kVocabulary), .weight = TensorOf(up)};
  ExpectCosines(CosinesOf(*LinearJacobians(full, {}, World(), stream)), {0.288198277812, 0.246206957281});

  Matrix narrow = up.leftCols(3), down = Waves(3, kWidth, 2.2);
  const Linear projection = {TensorOf(down), Tensor()};
  const HeadView factorised = {.rows = full.rows, .weight = TensorOf(narrow), .down = &projection};
  ExpectCosines(CosinesOf(*LinearJacobians(factorised, {}, World(), stream)), {0.283700505791, 0.241748786676});

  const TwoLevels levels({1, -1, 0, 1, -1, 1, 0, 2, 2, 2, 0, 1, 1, 1, -1, 2, 0, 0, 1, 2, 2, 2, 1}, 3, World().size(),
                         World().rank());
  LevelJacobians of_levels(levels, {}, {TensorOf(clusters), Tensor()}, {TensorOf(up), Tensor()}, World(), stream);
  ExpectCosines(CosinesOf(of_levels), {0.407081996627, 0.278613593026});
}

TEST(VisibleShares, OfCopiesAreThoseOfExplicitJacobians) {
  Stream stream;
  Matrix up = OwnRows(Waves(kVocabulary, kWidth, 0.3)), down = Waves(7, kWidth, 1.9), hidden = Waves(8, kWidth, 0.7);
  double sink = 0.4;
  std::vector<int32_t> ids = {3, 9, 3, 7, 22, 7, 22, 22};
  const Tensor read(ids.data(), DType::kInt32, 1, 8);
  PointerJacobians copies({.weight = TensorOf(up),
                           .rows = Own(kVocabulary),
                           .down = TensorOf(down),
                           .sink = Tensor(&sink, DType::kFloat64, 1, 1),
                           .sequence_length = 4},
                          read, World(), stream);
  const auto tokens = PlacedTokens::Of(TensorOf(hidden), {2, 3, 4, 7}, kTargets, stream);
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  ExpectCosines(CosinesOf(copies, *tokens), {0.250541890028, 0.272429814582});
}

constexpr char kMixture[] = "kind: 'mixture' mixture { count: 3 }";

bool Is(const TinyOptions& options, const std::string& kind) {
  return options.head.find("kind: '" + kind + "'") != std::string::npos;
}

// Weights of a copying head that copies much, from some positions more than from others.
void CopyMore(ParameterStore& parameters) {
  for (const auto& [name, factor] :
       {std::pair("head.query.weight", 3.0), std::pair("head.key.weight", 3.0), std::pair("head.slot.weight", 10.0)}) {
    const Tensor weight = parameters.Weight(name);
    for (int64_t i = 0; i < weight.size(); ++i) SetElement(weight, i, factor * ElementOf(weight, i));
  }
  SetElement(parameters.Weight("head.sink"), 0, 0.6);
}

// All kinds of heads that have Jacobians, in the state of a first step.
std::vector<TinyOptions> HeadCases() {
  std::vector<TinyOptions> cases;
  for (const std::string& head :
       {std::string(), std::string("kind: 'cluster' clusters { kind: 'order' count: 7 }"),
        std::string("kind: 'hierarchical' clusters { kind: 'order' count: 7 }"),
        std::string("kind: 'hierarchical' clusters { kind: 'frequency' count: 3 }"),
        std::string("kind: 'sampled' sampled { classes: 60 }"), std::string("kind: 'sampled' sampled { classes: 0 }"),
        std::string("kind: 'wide' expansion: 3"), std::string("kind: 'wide' soft_cap: 0.05 z_loss: 0.3"),
        std::string(kMixture), kMixture + std::string(" soft_cap: 0.05"), std::string("kind: 'copy' copy_width: 3"),
        std::string("kind: 'copy' copy_width: 7 soft_cap: 0.5 z_loss: 0.3"), std::string("kind: 'contrastive'"),
        std::string("kind: 'contrastive' contrastive { duplicates: false }"),
        std::string("kind: 'contrastive' z_loss: 0.3")}) {
    cases.push_back(PartOptions());
    cases.back().head = head;
    cases.back().tied = Is(cases.back(), "contrastive");
    // Few tokens, so that sequences repeat them.
    if (Is(cases.back(), "copy")) cases.back().vocabulary = 23;
  }
  cases.push_back(PartOptions());
  cases.back().tied = true;
  cases.push_back(cases.back());
  cases.back().head = "kind: 'sampled' sampled { classes: 60 }";
  cases.push_back(PartOptions());
  cases.back().head_rank = 5;
  for (size_t i : {0, 3, 4}) {
    cases.push_back(cases[i]);
    cases.back().head += " soft_cap: 0.05 z_loss: 0.3";
  }
  cases.push_back(cases[0]);
  cases.back().head = "bias: true row_scale: 0.5 soft_cap: 5";
  return cases;
}

Tensor IdsOf(TrainPass& pass) {
  return Tensor(pass.ids.data(), DType::kInt32, 1, static_cast<int64_t>(pass.ids.size()));
}

// The log-probabilities of the token n of a pass, from the logits by which text is generated. `moved` is added to its
// hidden state.
Eigen::VectorXd LogProbabilities(TrainPass& pass, Eigen::Index n, const Eigen::RowVectorXd& moved) {
  Matrix hidden = pass.hidden;
  hidden.row(n) += moved;
  const auto logits = pass.model().loss().LogitsOf(n, TensorOf(hidden), IdsOf(pass));
  EXPECT_TRUE(logits.ok()) << logits.status();
  const Eigen::VectorXd z = MatrixOf(*logits).transpose();
  return z.array() - z.maxCoeff() - std::log((z.array() - z.maxCoeff()).exp().sum());
}

// Differences of fourth order.
Matrix DifferencesOf(TrainPass& pass, Eigen::Index n) {
  constexpr double kDifference = 1e-3;
  const Eigen::Index width = pass.hidden.cols();
  Matrix jacobian(LogProbabilities(pass, n, Eigen::RowVectorXd::Zero(width)).size(), width);
  for (Eigen::Index i = 0; i < width; ++i) {
    const auto at = [&](double steps) {
      return LogProbabilities(pass, n, steps * kDifference * Eigen::RowVectorXd::Unit(width, i));
    };
    jacobian.col(i) = (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * kDifference);
  }
  return jacobian;
}

// On one rank: J is the derivative of the log-probabilities, and both gradients come back as the gradient that the head
// has passed on. Under a head that copies that is so for the last token of each sequence, which no other token points at.
TEST(VisibleShares, JacobiansAreDerivativesAndPassOnWhatTheHeadPassesOn) {
  if (World().rank() != 0) return;
  for (const TinyOptions& options : HeadCases()) {
    SCOPED_TRACE(options.Name());
    const bool copies = Is(options, "copy");
    TrainPass pass(options, 1, copies ? CopyMore : nullptr);
    const auto view = pass.model().loss().View();
    ASSERT_TRUE(view.ok());
    Stream stream;
    const LossForm form = LossFormOf(TinyConfig(options).model());
    Communicator& tensor = pass.mesh().tensor();
    const auto linear = view->jacobians == nullptr ? LinearJacobians(*view, form, tensor, stream) : nullptr;
    TokenJacobians& jacobians = linear == nullptr ? *view->jacobians : *linear;
    pass.model().loss().TakeInputs(IdsOf(pass));
    std::vector<TokenJacobian> found;
    const auto take = [&](TokenJacobian token) {
      found.push_back(std::move(token));
      return absl::OkStatus();
    };
    ASSERT_TRUE(jacobians.Visit(AllOf(pass.hidden, pass.targets), take).ok());
    ASSERT_EQ(found.size(), pass.targets.size());
    double energy = 0;
    for (size_t n = 0; n < found.size(); ++n) {
      const Eigen::RowVectorXd passed = pass.passed.row(static_cast<Eigen::Index>(n)) / pass.scale;
      const Eigen::RowVectorXd by_logits = found[n].gradient.transpose() * *found[n].logits;
      const bool alone = !copies || (n + 1) % static_cast<size_t>(options.sequence_length) == 0;
      if (alone) {
        EXPECT_LT((by_logits - passed).norm(), 1e-10 * passed.norm());
      }
      // The reported energy of a mixture leaves its prior out.
      const bool mixed = options.head.rfind(kMixture, 0) == 0;
      energy += found[n].gradient.head(found[n].gradient.size() - (mixed ? 3 : 0)).squaredNorm();
      // The loss of some classes is another one, and a z-loss is none of the probabilities.
      const bool some = options.head.find("classes: 60") != std::string::npos || Is(options, "contrastive");
      if (!some && form.z_loss == 0) {
        const Eigen::RowVectorXd by_probabilities =
            found[n].probability_gradient.transpose() * found[n].log_probabilities;
        EXPECT_LT((by_probabilities - by_logits).norm(), 1e-10 * by_logits.norm());
      }
      if (n % 20 != 0) continue;
      const auto token = static_cast<Eigen::Index>(n);
      const Matrix differences = DifferencesOf(pass, token);
      EXPECT_LT((found[n].log_probabilities - differences).norm(), 1e-9 * differences.norm());
      Eigen::VectorXd gradient =
          LogProbabilities(pass, token, Eigen::RowVectorXd::Zero(pass.hidden.cols())).array().exp();
      gradient(pass.targets[n]) -= 1;
      EXPECT_LT((found[n].probability_gradient - gradient).norm(), 1e-10 * gradient.norm());
    }
    // A head that copies reports none.
    if (!copies) {
      EXPECT_NEAR(energy, pass.sums.energy[0], 1e-10 * energy);
    }
  }
}

// A step takes every k-th token, whatever the mesh and the micro-batches, with the weights of that step.
TEST(VisibleShares, OfATrainingStepAreThoseOfEveryKthToken) {
  constexpr int64_t kMost = 7, kStride = 16;
  TinyOptions options = PartOptions();
  options.sequences = 12;  // 108 tokens
  HeadPass whole(options);
  const Eigen::BDCSVD<Eigen::MatrixXd> svd(whole.weight, Eigen::ComputeThinU);
  VisibleShares expected;
  for (Eigen::Index n = 0; n < whole.gradient.rows(); n += kStride) {
    const Eigen::RowVectorXd gradient = whole.gradient.row(n) / whole.scale;
    ++expected.tokens;
    expected.logits.whole += gradient.squaredNorm();
    expected.logits.visible += (gradient * svd.matrixU()).squaredNorm();
  }
  ASSERT_EQ(expected.tokens, kMost);
  for (const int tensor : {1, World().size()}) {
    options.tensor = tensor;
    options.data = World().size() / tensor;
    options.micro_batch = 2;
    options.jacobian_tokens = kMost;
    SCOPED_TRACE(options.Name());
    Replica replica(options, &World());
    const StepWithFigures step = replica.Step(1, /*measure_head=*/true);
    ASSERT_TRUE(step.head.has_value() && step.head->visible.has_value());
    EXPECT_EQ(step.head->visible->tokens, kMost);
    EXPECT_NEAR(step.head->visible->logits.whole, expected.logits.whole, 1e-10 * expected.logits.whole);
    EXPECT_NEAR(step.head->visible->logits.visible, expected.logits.visible, 1e-10 * expected.logits.visible);
    // Over all tokens it is what the decomposition finds.
    options.jacobian_tokens = 108;
    Replica all(options, &World());
    for (int64_t number = 1; number <= 3; ++number) {
      const StepWithFigures found = all.Step(number, /*measure_head=*/true);
      ASSERT_TRUE(found.head.has_value() && found.head->visible.has_value());
      EXPECT_EQ(found.head->visible->tokens, 108);
      EXPECT_NEAR(found.head->visible->logits.cosine(), found.head->scalars.visible_cosine(), 1e-9) << number;
    }
  }
}

// The part of the head's own gradient that comes back is the part of the whole.
TEST(VisibleShares, AreProjections) {
  if (World().rank() != 0) return;
  TinyOptions options = PartOptions();
  TrainPass pass(options);
  const auto view = pass.model().loss().View();
  ASSERT_TRUE(view.ok());
  Stream stream;
  const auto linear = LinearJacobians(*view, {}, pass.mesh().tensor(), stream);
  const VisibleShares shares = SharesOf(*linear, AllOf(pass.hidden, pass.targets), pass.mesh().tensor());
  HeadPass whole(options);
  const Eigen::BDCSVD<Eigen::MatrixXd> svd(whole.weight, Eigen::ComputeThinU);
  const double visible = (whole.gradient * svd.matrixU()).squaredNorm() / whole.gradient.squaredNorm();
  EXPECT_NEAR(shares.logits.cosine(), std::sqrt(visible), 1e-10);
}

}  // namespace
}  // namespace isthmus::testing
