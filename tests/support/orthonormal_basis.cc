#include "tests/support/orthonormal_basis.h"

#include <Eigen/QR>

namespace isthmus::testing {

Eigen::MatrixXd OrthonormalBasis(const Eigen::MatrixXd& matrix) {
  const Eigen::ColPivHouseholderQR<Eigen::MatrixXd> qr(matrix);
  return qr.householderQ() * Eigen::MatrixXd::Identity(matrix.rows(), qr.rank());
}

}  // namespace isthmus::testing
