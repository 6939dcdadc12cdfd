#include "model/algebra/symmetric.h"

#include <Eigen/Eigenvalues>
#include <limits>

namespace isthmus {
namespace {

using Solver = Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd>;

}  // namespace

Eigen::VectorXd Eigenvalues(const Tensor& symmetric) {
  const Solver solver(ViewOf(symmetric), Eigen::EigenvaluesOnly);
  return solver.eigenvalues().reverse();
}

FirstEigenvectors FindFirstEigenvectors(const Matrix& symmetric, int64_t rank) {
  const Solver solver(symmetric);  // its values and vectors ascend
  return {solver.eigenvalues().reverse(), solver.eigenvectors().rightCols(rank).rowwise().reverse()};
}

Matrix ProjectionOnFirst(const Matrix& symmetric, int64_t rank) {
  const Solver solver(symmetric);
  const auto first = solver.eigenvectors().rightCols(rank);  // they ascend
  return first * first.transpose();
}

Matrix PseudoInverse(const Matrix& symmetric) {
  const Solver solver(symmetric);
  const Eigen::VectorXd& values = solver.eigenvalues();
  if (values.size() == 0) return symmetric;
  const double least = values.tail(1)(0) * static_cast<double>(values.size()) * std::numeric_limits<double>::epsilon();
  const Eigen::VectorXd inverse = (values.array() > least).select(values.cwiseInverse(), 0.0);
  return solver.eigenvectors() * inverse.asDiagonal() * solver.eigenvectors().transpose();
}

}  // namespace isthmus
