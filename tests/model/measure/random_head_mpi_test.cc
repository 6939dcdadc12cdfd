// Random heads: orthonormal, the same on any number of ranks, and in no particular direction.
#include <gtest/gtest.h>

#include <Eigen/QR>
#include <cmath>

#include "model/measure/random_head.h"
#include "parallel/communicator.h"
#include "runtime/philox.h"
#include "tests/support/mpi_world.h"

namespace isthmus::testing {
namespace {

constexpr int64_t kDrawnRows = 103, kDrawnRank = 9;

// Returns all rows of a draw, by one rank that holds them in `shards` shards.
Matrix WholeDraw(int64_t rows, int64_t rank, uint32_t draw, int shards = 1) {
  const auto self = MakeSelfCommunicator();
  std::vector<Range> ranges;
  for (int i = 0; i < shards; ++i) ranges.push_back(ShardOf(rows, shards, i));
  const auto drawn = RandomHead(ranges, rank, draw, *self);
  EXPECT_TRUE(drawn.ok()) << drawn.status();
  Matrix whole(rows, rank);
  for (size_t i = 0; i < ranges.size(); ++i) whole.middleRows(ranges[i].begin, ranges[i].size()) = (*drawn)[i];
  return whole;
}

double FarFromOrthonormal(const Matrix& q) {
  return (q.transpose() * q - Matrix::Identity(q.cols(), q.cols())).cwiseAbs().maxCoeff();
}

TEST(RandomHeads, AreOrthonormalAlsoWithAlmostAsManyColumnsAsRows) {
  for (const int64_t rank : {int64_t{1}, kDrawnRank, kDrawnRows - 1}) {
    SCOPED_TRACE(rank);
    const Matrix q = WholeDraw(kDrawnRows, rank, 2);
    EXPECT_LT(FarFromOrthonormal(q), 1e-12);
    EXPECT_GT(FarFromOrthonormal(1.0001 * q), 1e-12) << "the check does not notice";
  }
}

TEST(RandomHeads, SpanTheSpaceOfTheirNormalNumbers) {
  const Matrix q = WholeDraw(kDrawnRows, kDrawnRank, 3);
  Matrix x(kDrawnRows, kDrawnRank);
  for (int64_t i = 0; i < x.size(); ++i) {
    x.data()[i] = Philox::Normal(0, RandomPurpose::kControlHead, 3, static_cast<uint64_t>(i));
  }
  EXPECT_LT((x - q * (q.transpose() * x)).cwiseAbs().maxCoeff(), 1e-12);
  const Matrix other = WholeDraw(kDrawnRows, kDrawnRank, 4);
  EXPECT_GT((x - other * (other.transpose() * x)).cwiseAbs().maxCoeff(), 0.1) << "another draw";
}

TEST(RandomHeads, AreTheSameOnAnyRanksAndShards) {
  Communicator& world = World();
  const Matrix alone = WholeDraw(kDrawnRows, kDrawnRank, 5), shards = WholeDraw(kDrawnRows, kDrawnRank, 5, 4);
  EXPECT_LT((alone - shards).cwiseAbs().maxCoeff(), 1e-13);
  const Range own = ShardOf(kDrawnRows, world.size(), world.rank());
  const auto part = RandomHead({own}, kDrawnRank, 5, world);
  ASSERT_TRUE(part.ok()) << part.status();
  ASSERT_EQ(part->size(), 1u);
  EXPECT_LT((part->front() - alone.middleRows(own.begin, own.size())).cwiseAbs().maxCoeff(), 1e-13);
}

// W = Q S, and W' = Q' S.
TEST(RandomHeads, WithTheFactorOfAHeadHaveItsGramMatrix) {
  const Matrix head = Matrix::NullaryExpr(kDrawnRows, kDrawnRank, [](Eigen::Index i, Eigen::Index j) {
    return std::pow(10.0, -static_cast<double>(j) / 3) * (0.3 + std::sin(static_cast<double>(7 * i + i * j)));
  });
  const Eigen::HouseholderQR<Eigen::MatrixXd> qr(head);
  const Matrix factor = qr.matrixQR().topRows(kDrawnRank).triangularView<Eigen::Upper>();
  const Matrix other = WholeDraw(kDrawnRows, kDrawnRank, 6) * factor;
  const Matrix wanted = head.transpose() * head, found = other.transpose() * other;
  EXPECT_LT((found - wanted).norm(), 1e-9 * wanted.norm());
  EXPECT_GT((other - head).norm(), 0.5 * head.norm()) << "it is another head";
}

// The mean share of a gradient's energy in a random subspace is rank / V, whatever the gradient is.
TEST(RandomHeads, LieInNoParticularDirection) {
  constexpr uint32_t kDraws = 400;
  Matrix gradients = Matrix::Zero(3, kDrawnRows);
  gradients(0, 0) = 1;                   // one row of the vocabulary
  gradients.row(1).setConstant(1);       // all of them
  gradients.row(2).setLinSpaced(-1, 1);  // rows that sum up to zero
  gradients.rowwise().normalize();
  Eigen::VectorXd sum = Eigen::VectorXd::Zero(3), squares = sum;
  for (uint32_t draw = 0; draw < kDraws; ++draw) {
    const Eigen::VectorXd shares = (gradients * WholeDraw(kDrawnRows, kDrawnRank, draw)).rowwise().squaredNorm();
    sum += shares;
    squares += shares.cwiseAbs2();
  }
  const double expected = static_cast<double>(kDrawnRank) / kDrawnRows;
  for (int i = 0; i < 3; ++i) {
    SCOPED_TRACE(i);
    const double mean = sum(i) / kDraws, variance = squares(i) / kDraws - mean * mean;
    EXPECT_LT(std::abs(mean - expected), 4 * std::sqrt(variance / kDraws));
    // It is a beta distribution, Beta(rank / 2, (V - rank) / 2).
    const double wanted = 2.0 * kDrawnRank * (kDrawnRows - kDrawnRank) / (std::pow(kDrawnRows, 2) * (kDrawnRows + 2));
    EXPECT_NEAR(variance / wanted, 1, 0.3);
  }
}

}  // namespace
}  // namespace isthmus::testing
