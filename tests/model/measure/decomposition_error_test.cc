// Tests c² + r² = 1 over sampled tokens, where the lost part is measured by itself. It holds for a right projection,
// and a wrong one shows.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/QR>
#include <cmath>
#include <memory>
#include <utility>

#include "launch/run/head_record.h"
#include "model/measure/head_sums.h"
#include "model/measure/lost_part.h"
#include "model/measure/sampled_gradient.h"
#include "runtime/philox.h"
#include "tests/support/orthonormal_basis.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

constexpr int64_t kHeadTokens = 21, kHeadRows = 47, kHeadWidth = 6;

Matrix RandomTestMatrix(int64_t rows, int64_t columns, uint64_t seed) {
  Matrix matrix(rows, columns);
  for (int64_t i = 0; i < matrix.size(); ++i) {
    matrix.data()[i] = 2 * Philox::Uniform(seed, RandomPurpose::kTest, 0, static_cast<uint64_t>(i)) - 1;
  }
  return matrix;
}

double DecompositionError(const HeadSums::SelfTest& self_test) {
  HeadSums sums;
  sums.tokens = sums.width = 1;
  sums.vocabulary = 8;
  sums.sample_gram = Matrix::Identity(1, 1);
  sums.shards = {{.rows = 8, .logit_gradient_energy = 1}};
  sums.sampled_hidden = Matrix::Zero(1, 1);
  sums.hidden_unit_sum = sums.head_unit_sum = Eigen::VectorXd::Zero(1);
  sums.self_test = self_test;
  const HeadFigures head = MakeMeasurement(sums);
  EXPECT_TRUE(head.scalars.has_decomposition_error());
  return head.scalars.decomposition_error();
}

// Returns the error that `isthmus decompose` finds with `basis` instead of a basis of the columns of W, in two blocks
// of rows.
double ErrorWithBasis(const Matrix& head, Matrix basis) {
  Matrix gradient = RandomTestMatrix(kHeadTokens, kHeadRows, 3);
  const Matrix projected = gradient * basis;
  const double energy = gradient.squaredNorm(), retained = projected.squaredNorm();
  Matrix factor = head;
  LostPart lost(projected, kHeadWidth);
  Stream stream;
  for (const Range rows : {Range{0, 20}, Range{20, kHeadRows}}) {
    Matrix block = gradient.middleCols(rows.begin, rows.size());
    EXPECT_TRUE(lost.Add(TensorOf(block), TensorOf(basis).RowSlice(rows.begin, rows.size()),
                         TensorOf(factor).RowSlice(rows.begin, rows.size()), stream)
                    .ok());
  }
  return DecompositionError({.energy = energy,
                             .retained = retained,
                             .lost = lost.energy(),
                             .lost_passed_on = lost.PassedOn(Matrix(), head.norm())});
}

TEST(HeadSelfTest, OfTensorsSeesAWrongBasis) {
  const Matrix head = RandomTestMatrix(kHeadRows, kHeadWidth, 1);
  const Matrix basis = OrthonormalBasis(head);
  EXPECT_LT(ErrorWithBasis(head, basis), 1e-14);
  EXPECT_GT(ErrorWithBasis(head, 1.001 * basis), 1e-5) << "columns are too long";
  const Matrix other = RandomTestMatrix(kHeadRows, 1, 2);
  Matrix turned = basis;
  turned.col(2) = other - basis * (basis.transpose() * other);
  turned.col(2).normalize();
  EXPECT_GT(ErrorWithBasis(head, turned), 1e-5) << "orthonormal, but of another space";
}

// Makes the self-test as a step does, with P in the memory of a measurement. The parameter says whether the head is
// factorised.
class StepSelfTest : public ::testing::TestWithParam<bool> {
 protected:
  StepSelfTest() : self_(MakeSelfCommunicator()), mesh_(*Mesh::Create(*self_, 1, 0)) {
    shape_.vocabulary = kHeadRows;
    shape_.width = kHeadWidth;
    shape_.has_down = GetParam();
    shape_.hidden_width = down_.cols();
    shape_.layers = 1;
    shape_.shard = {0, kHeadRows};
    shape_.tokens = shape_.step_tokens = shape_.sampled = kHeadTokens;
    shape_.type = DType::kFloat64;
    TensorPlacer placer;
    MeasurementMemory::Place(shape_, placer);
    arena_ = *Arena::Allocate("test", placer.layout().bytes(), Device::kCpu);
    TensorPlacer filled(&arena_);
    memory_ = MeasurementMemory::Place(shape_, filled);
    ViewOf(memory_.head.gram) = head_.transpose() * head_;
    if (shape_.has_down) {
      ViewOf(memory_.head.down) = down_;
      ViewOf(memory_.update.down_gram) = down_ * down_.transpose();
    }
    // The projector is the inverse of R, W = Q R.
    projector_ = Eigen::HouseholderQR<Eigen::MatrixXd>(head_)
                     .matrixQR()
                     .topRows(kHeadWidth)
                     .triangularView<Eigen::Upper>()
                     .solve(Eigen::MatrixXd::Identity(kHeadWidth, kHeadWidth));
  }

  // Returns the error with this projector. The retained energy is that of F = A P with the same P, as in a step.
  double ErrorWith(const Matrix& projector) {
    ViewOf(memory_.head.wide_projector) = projector;
    const Matrix logits = hidden_ * head_.transpose();
    SampledTokens tokens({.stride = 1, .count = kHeadTokens});
    Matrix gradient(kHeadTokens, kHeadRows);
    for (int64_t n = 0; n < kHeadTokens; ++n) {
      const int64_t target = 2 * n;
      const double log_sum_exp = std::log(logits.row(n).array().exp().sum());
      gradient.row(n) = (logits.row(n).array() - log_sum_exp).exp();
      gradient(n, target) -= 1;
      const double retained = (gradient.row(n) * head_ * projector).squaredNorm();
      tokens.figures.row(n) << log_sum_exp - logits(n, target), log_sum_exp, static_cast<double>(target), retained;
    }
    Stream stream;
    SampledGradient sampled(shape_, memory_, mesh_, {TensorOf(head_), {}}, 0, TensorOf(hidden_), tokens, stream);
    const auto found = sampled.Test();
    EXPECT_TRUE(found.ok()) << found.status();
    EXPECT_NEAR(found->energy, gradient.squaredNorm(), 1e-12);
    from_whole_ = std::abs(found->retained + found->lost - found->energy) / found->energy;
    const Matrix whole = head_ * down_, basis = head_ * projector;
    const Matrix lost = gradient - gradient * basis * basis.transpose();
    EXPECT_NEAR(found->lost_passed_on, (lost * whole).squaredNorm() / (whole.transpose() * whole).norm(), 1e-12);
    return DecompositionError({.energy = found->energy,
                               .retained = found->retained,
                               .lost = found->lost,
                               .lost_passed_on = found->lost_passed_on});
  }

  std::unique_ptr<Communicator> self_;
  Mesh mesh_;
  MeasurementShape shape_;
  Arena arena_;
  MeasurementMemory memory_;
  // W = U E; of a plain head E = I.
  Matrix head_ = RandomTestMatrix(kHeadRows, kHeadWidth, 1), hidden_ = RandomTestMatrix(kHeadTokens, kHeadWidth, 2),
         down_ = GetParam() ? RandomTestMatrix(kHeadWidth, 9, 4) : Matrix(Matrix::Identity(kHeadWidth, kHeadWidth)),
         projector_;
  double from_whole_ = 0;  // |c² + r² - 1| of the last call of ErrorWith
};

INSTANTIATE_TEST_SUITE_P(PlainAndFactorised, StepSelfTest, ::testing::Bool());

TEST_P(StepSelfTest, SeesAWrongProjector) {
  EXPECT_LT(ErrorWith(projector_), 1e-13);
  EXPECT_GT(ErrorWith(1.001 * projector_), 1e-5);
  Matrix changed = projector_;
  changed(2, 3) += 1e-2 * projector_.norm();
  EXPECT_GT(ErrorWith(changed), 1e-5);
}

TEST_P(StepSelfTest, SeesAProjectorOnTooSmallASpace) {
  for (int64_t column = 0; column < kHeadWidth; ++column) {
    Matrix lacking = projector_;
    lacking.col(column).setZero();
    EXPECT_GT(ErrorWith(lacking), 1e-5) << "without column " << column;
    EXPECT_LT(from_whole_, 1e-13) << "both energies add up to the whole all the same";
  }
  EXPECT_GT(ErrorWith(Matrix::Zero(kHeadWidth, kHeadWidth)), 1e-3);
}

TEST(HeadSelfTest, HoldsInAStepOfTraining) {
  for (const int64_t head_rank : {0, 5}) {
    for (const auto& [precision, most] :
         {std::pair{proto::PrecisionConfig::FP64, 1e-12}, std::pair{proto::PrecisionConfig::FP32, 1e-5},
          std::pair{proto::PrecisionConfig::BF16, 1e-3}}) {
      TinyOptions options;
      options.head_rank = head_rank;
      options.precision = precision;
      Replica replica(options);
      const HeadFigures head = *replica.Step(1, /*measure_head=*/true).head;
      EXPECT_TRUE(head.scalars.has_decomposition_error() && head.scalars.has_lost_norm_ratio()) << options.Name();
      EXPECT_LT(head.scalars.decomposition_error(), most) << options.Name();
      // All tokens of the step are sampled.
      EXPECT_NEAR(head.scalars.sampled_lost_norm_ratio(), head.scalars.lost_norm_ratio(), most) << options.Name();
      EXPECT_GT(head.scalars.sampled_lost_norm_ratio(), 0.1);
    }
  }
}

HeadSums SumsWith(double total, double retained) {
  HeadSums sums;
  sums.tokens = sums.width = sums.rank = 1;
  sums.vocabulary = 8;
  sums.arithmetic = DType::kFloat32;
  sums.update.signal_energy = 1;
  sums.projector_energy = 1;
  sums.shards = {{8, total, retained}};
  sums.token.retained_energy = retained;
  sums.sample_gram = Matrix::Identity(1, 1);
  sums.sampled_hidden = Matrix::Zero(1, 1);
  sums.hidden_unit_sum = sums.head_unit_sum = Eigen::VectorXd::Zero(1);
  sums.self_test = {.energy = 4, .retained = 9, .lost = 1};
  return sums;
}

TEST(HeadSelfTest, ARetainedNormAboveTheWholeIsToldAsWhatItIs) {
  const HeadFigures head = MakeMeasurement(SumsWith(4, 9));
  EXPECT_THAT(head.not_measured, ::testing::AllOf(::testing::HasSubstr("passes on, 3, is above"),
                                                  ::testing::HasSubstr("the whole gradient, 2"),
                                                  ::testing::Not(::testing::HasSubstr("condition"))));
  EXPECT_FALSE(head.scalars.has_lost_norm_ratio());
  proto::HeadRecord record;
  FillHeadRecord(head, record);
  EXPECT_FALSE(record.has_sampled_lost_norm_ratio());
  EXPECT_EQ(record.decomposition_error(), 1.5);
  EXPECT_EQ(MakeMeasurement(SumsWith(4, 4.001)).not_measured, "");
  HeadSums rounded = SumsWith(4, 9);
  rounded.projector_energy = 1e12;
  EXPECT_THAT(MakeMeasurement(rounded).not_measured, ::testing::HasSubstr("is beyond fp32"));
}

TEST(HeadSelfTest, SquaresBeyondFp32AreToldAndLeaveNoWrongFigures) {
  for (const double signal_energy : {1e-44, HUGE_VAL}) {
    HeadSums sums = SumsWith(4, 1);
    sums.update.signal_energy = signal_energy;
    const HeadFigures head = MakeMeasurement(sums);
    EXPECT_THAT(head.not_measured, ::testing::HasSubstr("squares"));
    proto::HeadRecord record;
    FillHeadRecord(head, record);
    EXPECT_FALSE(record.has_hidden_update_cosine());
    EXPECT_FALSE(record.has_visible_cosine());
  }
}

}  // namespace
}  // namespace isthmus::testing
