// Eigenvalues of symmetric matrices, and what follows from them; fp64 on the host. For 4,096 columns that takes a
// minute.
#ifndef ISTHMUS_MODEL_ALGEBRA_SYMMETRIC_H_
#define ISTHMUS_MODEL_ALGEBRA_SYMMETRIC_H_

#include <Eigen/Core>
#include <cstdint>

#include "model/algebra/matrix.h"
#include "runtime/tensor.h"

namespace isthmus {

// Returns the eigenvalues of a symmetric matrix, descending; fp64 in host memory.
Eigen::VectorXd Eigenvalues(const Tensor& symmetric);

// The eigenvalues of a symmetric matrix, descending, and the eigenvectors of the first ones. Vectors of alike values
// are any basis of the space that they span.
struct FirstEigenvectors {
  Eigen::VectorXd values;   // all of them
  Eigen::MatrixXd vectors;  // [n, rank]
};
// The matrix must be finite.
FirstEigenvectors FindFirstEigenvectors(const Matrix& symmetric, int64_t rank);

// Returns Q Qᵀ, the projection on the eigenvectors Q of the `rank` largest eigenvalues. The matrix must be finite.
Matrix ProjectionOnFirst(const Matrix& symmetric, int64_t rank);

// Returns the pseudo-inverse. Eigenvalues count if they are above the largest times the matrix's size times the
// rounding unit of fp64: smaller ones are rounding errors of zero. The matrix must be finite.
Matrix PseudoInverse(const Matrix& symmetric);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_ALGEBRA_SYMMETRIC_H_
