#include "model/decomposition/head_projection.h"

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <Eigen/QR>
#include <algorithm>

#include "model/decomposition/head_factor.h"

namespace isthmus {

std::optional<HeadProjection> ProjectByCholesky(const Matrix& head_gram, const Matrix& down, double least) {
  const auto sound = [&](const Eigen::LLT<Matrix>& cholesky) {
    return cholesky.info() == Eigen::Success && cholesky.rcond() > least;
  };
  const Eigen::LLT<Matrix> cholesky(head_gram);
  if (!sound(cholesky)) return std::nullopt;
  // W has the columns of U where E has full rank.
  if (down.size() > 0 && !sound(Eigen::LLT<Matrix>(down * down.transpose()))) return std::nullopt;
  const Matrix inverse = cholesky.matrixL().solve(Matrix::Identity(head_gram.rows(), head_gram.rows()));
  return HeadProjection{inverse.transpose(), head_gram.rows(), {}};
}

HeadProjection ProjectByFactor(const Eigen::MatrixXd& r, const Matrix& down, int64_t vocabulary) {
  const HeadFactor factor = FactorHead(r, down, vocabulary);
  HeadProjection projection;
  projection.rank = factor.rank;
  projection.singular_values = factor.singular_values.head(std::min(factor.singular_values.size(), vocabulary));
  projection.projector = Matrix::Zero(r.cols(), r.cols());
  if (factor.rank == 0) return projection;
  // U = Q transform, so that G Q = A_U transform⁺.
  const Eigen::CompleteOrthogonalDecomposition<Eigen::MatrixXd> solver(factor.transform);
  projection.projector.leftCols(factor.rank) =
      solver.solve(Eigen::MatrixXd::Identity(factor.transform.rows(), factor.rank));
  return projection;
}

Eigen::VectorXd SingularValues(const Matrix& head_gram, const Matrix& down) {
  Eigen::MatrixXd square = head_gram;
  if (down.size() > 0) {
    // The eigenvalues of WᵀW that are not zero are those of Lᵀ UᵀU L, E Eᵀ = L Lᵀ.
    const Eigen::LLT<Matrix> cholesky(down * down.transpose());
    const Matrix lower = cholesky.matrixL();
    square = lower.transpose() * head_gram * lower;
  }
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(square, Eigen::EigenvaluesOnly);
  return solver.eigenvalues().reverse().cwiseMax(0.0).cwiseSqrt();
}

}  // namespace isthmus
