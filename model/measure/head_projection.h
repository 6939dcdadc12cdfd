// How the gradient that left the head is projected on the head's column space where its Gram matrix does not tell, and
// the head's singular values. In fp64 on the host.
#ifndef ISTHMUS_MODEL_MEASURE_HEAD_PROJECTION_H_
#define ISTHMUS_MODEL_MEASURE_HEAD_PROJECTION_H_

#include <Eigen/Core>

#include "model/measure/matrix.h"
#include "runtime/tensor.h"

namespace isthmus {

// U [V, width] is the vocabulary-sized factor: W itself, or that of W = U E. With A_U = G U, A_U projector = G Q, where
// the columns of Q are an orthonormal basis of the column space of W: what remains of a token's gradient has the norm
// of its row.
struct HeadProjection {
  Matrix projector;                 // [width, width]; columns beyond the rank are zero
  int64_t rank = 0;                 // of W
  Eigen::VectorXd singular_values;  // of W, descending
};

// From the triangular factor of U [any, width], whatever its condition and rank (model/measure/head_factor.h).
HeadProjection ProjectByFactor(const Eigen::MatrixXd& r, const Matrix& down, int64_t vocabulary);

// Eigenvalues of a symmetric matrix, descending; fp64 in host memory.
Eigen::VectorXd Eigenvalues(const Tensor& symmetric);

// Singular values of W, descending, as roots of the eigenvalues of `gram`, fp64 in host memory: WᵀW, or another matrix
// that has those of its eigenvalues that are not zero.
Eigen::VectorXd SingularValues(const Tensor& gram);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_HEAD_PROJECTION_H_
