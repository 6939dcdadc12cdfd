// ranks: 1 2 3
// Tests of the shares of single tokens' gradients that a change of their hidden states can follow.
#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "model/algebra/matrix.h"
#include "model/heads/heads.h"
#include "model/heads/levels/level_jacobians.h"
#include "model/heads/levels/two_levels.h"
#include "model/heads/lm_head.h"
#include "model/heads/token_jacobians.h"
#include "model/measure/measure_visible_shares.h"
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

Cosines CosinesOf(TokenJacobians& jacobians) {
  const auto shares = MeasureVisibleShares(jacobians, Waves(4, kWidth, 0.7), kTargets, World());
  EXPECT_TRUE(shares.ok()) << shares.status();
  EXPECT_EQ(shares->tokens, 4);
  return {shares->logits.cosine(), shares->log_probabilities.cosine()};
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

constexpr char kMixture[] = "kind: 'mixture' mixture { count: 3 }";

// All kinds of heads that have Jacobians, in the state of a first step.
std::vector<TinyOptions> HeadCases() {
  std::vector<TinyOptions> cases;
  for (const std::string& head :
       {std::string(), std::string("kind: 'cluster' clusters { kind: 'order' count: 7 }"),
        std::string("kind: 'hierarchical' clusters { kind: 'order' count: 7 }"),
        std::string("kind: 'hierarchical' clusters { kind: 'frequency' count: 3 }"),
        std::string("kind: 'sampled' sampled { classes: 60 }"), std::string("kind: 'sampled' sampled { classes: 0 }"),
        std::string("kind: 'wide' expansion: 3"), std::string("kind: 'wide' soft_cap: 0.05 z_loss: 0.3"),
        std::string(kMixture), kMixture + std::string(" soft_cap: 0.05")}) {
    cases.push_back(PartOptions());
    cases.back().head = head;
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

// The log-probabilities of one token, from the logits by which text is generated.
Eigen::VectorXd LogProbabilities(TrainingModel& model, Eigen::RowVectorXd hidden) {
  const auto logits = model.loss().Logits(Tensor(hidden.data(), DType::kFloat64, 1, hidden.size()));
  EXPECT_TRUE(logits.ok()) << logits.status();
  const Eigen::VectorXd z = MatrixOf(*logits).transpose();
  return z.array() - z.maxCoeff() - std::log((z.array() - z.maxCoeff()).exp().sum());
}

// Differences of fourth order.
Matrix DifferencesOf(TrainingModel& model, const Eigen::RowVectorXd& hidden) {
  constexpr double kDifference = 1e-3;
  Matrix jacobian(LogProbabilities(model, hidden).size(), hidden.size());
  for (Eigen::Index i = 0; i < hidden.size(); ++i) {
    const auto at = [&](double steps) {
      Eigen::RowVectorXd moved = hidden;
      moved(i) += steps * kDifference;
      return LogProbabilities(model, moved);
    };
    jacobian.col(i) = (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * kDifference);
  }
  return jacobian;
}

// On one rank: J is the derivative of the log-probabilities, and both gradients come back as the gradient that the head
// has passed on.
TEST(VisibleShares, JacobiansAreDerivativesAndPassOnWhatTheHeadPassesOn) {
  if (World().rank() != 0) return;
  for (const TinyOptions& options : HeadCases()) {
    SCOPED_TRACE(options.Name());
    TrainPass pass(options);
    const auto view = pass.model().loss().View();
    ASSERT_TRUE(view.ok());
    Stream stream;
    const LossForm form = LossFormOf(TinyConfig(options).model());
    Communicator& tensor = pass.mesh().tensor();
    const auto linear = view->jacobians == nullptr ? LinearJacobians(*view, form, tensor, stream) : nullptr;
    TokenJacobians& jacobians = linear == nullptr ? *view->jacobians : *linear;
    std::vector<TokenJacobian> found;
    const auto take = [&](TokenJacobian token) {
      found.push_back(std::move(token));
      return absl::OkStatus();
    };
    ASSERT_TRUE(jacobians.Visit(pass.hidden, pass.targets, take).ok());
    ASSERT_EQ(found.size(), pass.targets.size());
    double energy = 0;
    for (size_t n = 0; n < found.size(); ++n) {
      const Eigen::RowVectorXd passed = pass.passed.row(static_cast<Eigen::Index>(n)) / pass.scale;
      const Eigen::RowVectorXd by_logits = found[n].gradient.transpose() * *found[n].logits;
      EXPECT_LT((by_logits - passed).norm(), 1e-10 * passed.norm());
      // The reported energy of a mixture leaves its prior out.
      const bool mixed = options.head.rfind(kMixture, 0) == 0;
      energy += found[n].gradient.head(found[n].gradient.size() - (mixed ? 3 : 0)).squaredNorm();
      // The loss of a sample is another one, and a z-loss is none of the probabilities.
      if (options.head.find("classes: 60") == std::string::npos && form.z_loss == 0) {
        const Eigen::RowVectorXd by_probabilities =
            found[n].probability_gradient.transpose() * found[n].log_probabilities;
        EXPECT_LT((by_probabilities - passed).norm(), 1e-10 * passed.norm());
      }
      if (n % 20 != 0) continue;
      const Eigen::RowVectorXd hidden = pass.hidden.row(static_cast<Eigen::Index>(n));
      const Matrix differences = DifferencesOf(pass.model(), hidden);
      EXPECT_LT((found[n].log_probabilities - differences).norm(), 1e-9 * differences.norm());
      Eigen::VectorXd gradient = LogProbabilities(pass.model(), hidden).array().exp();
      gradient(pass.targets[n]) -= 1;
      EXPECT_LT((found[n].probability_gradient - gradient).norm(), 1e-10 * gradient.norm());
    }
    EXPECT_NEAR(energy, pass.sums.energy[0], 1e-10 * energy);
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
  const auto shares = MeasureVisibleShares(*linear, pass.hidden, pass.targets, pass.mesh().tensor());
  ASSERT_TRUE(shares.ok()) << shares.status();
  HeadPass whole(options);
  const Eigen::BDCSVD<Eigen::MatrixXd> svd(whole.weight, Eigen::ComputeThinU);
  const double visible = (whole.gradient * svd.matrixU()).squaredNorm() / whole.gradient.squaredNorm();
  EXPECT_NEAR(shares->logits.cosine(), std::sqrt(visible), 1e-10);
}

}  // namespace
}  // namespace isthmus::testing
