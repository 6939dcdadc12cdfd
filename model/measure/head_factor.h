// Finds singular values, rank and a basis of the head from its triangular factor.
#ifndef ISTHMUS_MODEL_MEASURE_HEAD_FACTOR_H_
#define ISTHMUS_MODEL_MEASURE_HEAD_FACTOR_H_

#include <Eigen/Core>
#include <cstdint>

#include "model/algebra/matrix.h"

namespace isthmus {

// The vocabulary-sized factor U [V, width] is W itself, or U of W = U E. U = Q₀ R, where Q₀ [V, k] is orthonormal. Q =
// Q₀ rotation is orthonormal too. Its first `rank` columns span the column space of W, and U = Q transform.
struct HeadFactor {
  Eigen::MatrixXd rotation;         // [k, k]
  Eigen::MatrixXd transform;        // [k, width]
  Eigen::VectorXd singular_values;  // of W, descending, min(k, D)
  int64_t rank = 0;                 // of W
};

// `down` is E [width, D], empty for a plain head. Singular values count if they are above the largest times max(V, D)
// times the rounding unit of fp64, as in NumPy's matrix_rank. Smaller ones are rounding errors of zero.
HeadFactor FactorHead(const Eigen::MatrixXd& r, const Matrix& down, int64_t vocabulary);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_HEAD_FACTOR_H_
