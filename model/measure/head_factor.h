// Singular values, rank and a basis of the head from its triangular factor.
#ifndef ISTHMUS_MODEL_MEASURE_HEAD_FACTOR_H_
#define ISTHMUS_MODEL_MEASURE_HEAD_FACTOR_H_

#include <Eigen/Core>
#include <cstdint>

#include "model/measure/matrix.h"

namespace isthmus {

// Of the vocabulary-sized factor U [V, width] (W itself, or U of W = U E) with U = Q₀ R, Q₀ [V, k] orthonormal:
// Q = Q₀ rotation is orthonormal too, its first `rank` columns span the column space of W, and U = Q transform.
struct HeadFactor {
  Eigen::MatrixXd rotation;         // [k, k]
  Eigen::MatrixXd transform;        // [k, width]
  Eigen::VectorXd singular_values;  // of W, descending, min(k, D)
  int64_t rank = 0;                 // of W
};

// `down`: E [width, D], empty for a plain head. Singular values that count are above the largest times max(V, D) times
// the rounding unit of fp64, as NumPy's matrix_rank has it: those below are what rounding leaves of zero.
HeadFactor FactorHead(const Eigen::MatrixXd& r, const Matrix& down, int64_t vocabulary);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_HEAD_FACTOR_H_
