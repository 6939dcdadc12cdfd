// How the gradient that left the head is projected on the head's column space, from D×D matrices alone. In fp64 on the
// host.
#ifndef ISTHMUS_MODEL_DECOMPOSITION_HEAD_PROJECTION_H_
#define ISTHMUS_MODEL_DECOMPOSITION_HEAD_PROJECTION_H_

#include <Eigen/Core>
#include <optional>

#include "model/decomposition/matrix.h"

namespace isthmus {

// U [V, width] is the vocabulary-sized factor: W itself, or that of W = U E. With A_U = G U, A_U projector = G Q, where
// the columns of Q are an orthonormal basis of the column space of W: what remains of a token's gradient has the norm
// of its row.
struct HeadProjection {
  Matrix projector;                 // [width, width]; columns beyond the rank are zero
  int64_t rank = 0;                 // of W
  Eigen::VectorXd singular_values;  // of W, descending; empty where SingularValues has yet to find them
};

// From UᵀU = L Lᵀ: the projector is L⁻ᵀ. `down`: E, empty for a plain head. Nothing where W has not full rank, or where
// UᵀU or E Eᵀ has a reciprocal condition below `least`: rounding of the Gram matrix would then show.
std::optional<HeadProjection> ProjectByCholesky(const Matrix& head_gram, const Matrix& down, double least);

// From the triangular factor of U [any, width], whatever its condition and rank (model/decomposition/head_factor.h).
HeadProjection ProjectByFactor(const Eigen::MatrixXd& r, const Matrix& down, int64_t vocabulary);

// Singular values of W, descending, as roots of eigenvalues.
Eigen::VectorXd SingularValues(const Matrix& head_gram, const Matrix& down);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_DECOMPOSITION_HEAD_PROJECTION_H_
