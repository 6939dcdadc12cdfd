#include "model/measure/head_projection.h"

#include <Eigen/QR>
#include <algorithm>

#include "model/algebra/symmetric.h"
#include "model/measure/head_factor.h"

namespace isthmus {

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

Eigen::VectorXd SingularValues(const Tensor& gram) { return Eigenvalues(gram).cwiseMax(0.0).cwiseSqrt(); }

}  // namespace isthmus
