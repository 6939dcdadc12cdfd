// Projects the gradient that left the head on the head's column space if its Gram matrix cannot, and finds the head's
// singular values. It works in fp64 on the host.
#ifndef ISTHMUS_MODEL_MEASURE_HEAD_PROJECTION_H_
#define ISTHMUS_MODEL_MEASURE_HEAD_PROJECTION_H_

#include <Eigen/Core>

#include "model/algebra/matrix.h"
#include "runtime/tensor.h"

namespace isthmus {

// U [V, width] is the vocabulary-sized factor: W itself, or that of W = U E. With A_U = G U, A_U projector = G Q. The
// columns of Q are an orthonormal basis of the column space of W. So a token's retained gradient has the norm of its
// row.
struct HeadProjection {
  Matrix projector;                 // [width, width]; columns beyond the rank are zero
  int64_t rank = 0;                 // of W
  Eigen::VectorXd singular_values;  // of W, descending
};

// Projects by the triangular factor of U [any, width], whatever its condition and rank (model/measure/head_factor.h).
HeadProjection ProjectByFactor(const Eigen::MatrixXd& r, const Matrix& down, int64_t vocabulary);

// Returns the singular values of W, descending, as roots of the eigenvalues of `gram`, fp64 in host memory. `gram` is
// WᵀW, or another matrix with the same nonzero eigenvalues.
Eigen::VectorXd SingularValues(const Tensor& gram);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_HEAD_PROJECTION_H_
