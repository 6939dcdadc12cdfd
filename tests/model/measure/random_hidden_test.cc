// Random hidden states have the mean and covariance that they were asked for, and are the same however they are cut.
#include "model/measure/random_hidden.h"

#include <gtest/gtest.h>

#include <cmath>

namespace isthmus::testing {
namespace {

constexpr int64_t kStates = 50, kStateWidth = 5;

// States whose mean is large, and whose columns are correlated; only the first `rank` of them are independent.
Matrix GivenStates(int64_t rank) {
  Matrix states = Matrix::NullaryExpr(kStates, kStateWidth, [](Eigen::Index i, Eigen::Index j) {
    return 3.0 + static_cast<double>(j) + std::sin(static_cast<double>((i + 1) * (j + 2) * (j + 3)));
  });
  for (int64_t j = rank; j < kStateWidth; ++j) states.col(j) = 2 * states.col(0) - states.col(j - rank);
  return states;
}

RandomHidden LikeStates(const Matrix& states) {
  return {states.colwise().sum().transpose(), states.transpose() * states, states.rows()};
}

// With 1 / N, not 1 / (N - 1).
Matrix CovarianceOf(const Matrix& states) {
  const Matrix centred = states.rowwise() - states.colwise().mean();
  return centred.transpose() * centred / static_cast<double>(states.rows());
}

TEST(RandomHiddenStates, HaveARootOfTheCovariance) {
  for (const int64_t rank : {int64_t{2}, kStateWidth}) {
    const Matrix states = GivenStates(rank), covariance = CovarianceOf(states);
    const RandomHidden random = LikeStates(states);
    EXPECT_LT((random.root() * random.root() - covariance).cwiseAbs().maxCoeff(), 1e-11);
    EXPECT_LT((random.root() - random.root().transpose()).cwiseAbs().maxCoeff(), 1e-13);
    EXPECT_LT((random.mean() - states.colwise().mean().transpose()).cwiseAbs().maxCoeff(), 1e-13);
  }
}

TEST(RandomHiddenStates, OfManyDrawsHaveMeanAndCovariance) {
  const Matrix states = GivenStates(kStateWidth), covariance = CovarianceOf(states);
  constexpr int64_t kMany = 40000;
  const Matrix drawn = LikeStates(states).Rows(1, 0, kMany), found = CovarianceOf(drawn);
  const Eigen::RowVectorXd off = drawn.colwise().mean() - states.colwise().mean();
  for (int64_t i = 0; i < kStateWidth; ++i) {
    EXPECT_LT(std::abs(off(i)), 4 * std::sqrt(covariance(i, i) / kMany));
    for (int64_t j = 0; j < kStateWidth; ++j) {
      // This is the variance of the product of two normal numbers.
      const double variance = covariance(i, i) * covariance(j, j) + covariance(i, j) * covariance(i, j);
      EXPECT_LT(std::abs(found(i, j) - covariance(i, j)), 4 * std::sqrt(variance / kMany)) << i << ", " << j;
    }
  }
  // A normal number has a fourth moment of 3.
  const Eigen::ArrayXd first = (drawn.col(0).array() - drawn.col(0).mean()) / std::sqrt(found(0, 0));
  EXPECT_NEAR(first.pow(4).mean(), 3, 4 * std::sqrt(96.0 / kMany));
}

TEST(RandomHiddenStates, LieInTheSpaceOfThoseGiven) {
  const Matrix states = GivenStates(2), drawn = LikeStates(states).Rows(0, 0, 20);
  for (int64_t j = 2; j < kStateWidth; ++j) {
    EXPECT_LT((drawn.col(j) - (2 * drawn.col(0) - drawn.col(j - 2))).cwiseAbs().maxCoeff(), 1e-10);
  }
  const Matrix alike = Matrix::Ones(kStates, 1) * states.row(3);
  EXPECT_LT((LikeStates(alike).Rows(0, 0, 20).rowwise() - states.row(3)).cwiseAbs().maxCoeff(), 1e-11);
}

TEST(RandomHiddenStates, AreTheSameHoweverTheyAreCut) {
  const RandomHidden random = LikeStates(GivenStates(kStateWidth));
  const Matrix whole = random.Rows(7, 0, 30), part = random.Rows(7, 11, 12);
  EXPECT_LT((whole.middleRows(11, 12) - part).cwiseAbs().maxCoeff(), 1e-13);
  EXPECT_GT((whole - random.Rows(8, 0, 30)).cwiseAbs().minCoeff(), 0) << "another draw";
}

}  // namespace
}  // namespace isthmus::testing
