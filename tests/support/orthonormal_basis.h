// A basis for references that the decomposition's tests compare with.
#ifndef ISTHMUS_TESTS_SUPPORT_ORTHONORMAL_BASIS_H_
#define ISTHMUS_TESTS_SUPPORT_ORTHONORMAL_BASIS_H_

#include <Eigen/Core>

namespace isthmus::testing {

// Returns [rows, rank], an orthonormal basis of the span of a matrix's columns, by QR with pivots, in fp64.
Eigen::MatrixXd OrthonormalBasis(const Eigen::MatrixXd& matrix);

}  // namespace isthmus::testing

#endif  // ISTHMUS_TESTS_SUPPORT_ORTHONORMAL_BASIS_H_
