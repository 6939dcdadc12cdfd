// Cholesky factor of a Gram matrix, its inverse and its condition, in fp64 on the stream's device: of a head of 4,096
// columns some 10¹¹ operations, in products of matrices but for small blocks on the diagonal, which the host factors.
#ifndef ISTHMUS_MODEL_MEASURE_GRAM_FACTOR_H_
#define ISTHMUS_MODEL_MEASURE_GRAM_FACTOR_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>

#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

// Rows of the workspace of [n, n] matrices.
inline constexpr int64_t kGramFactorRows = 320;

struct GramFactorArgs {
  Tensor gram;       // [n, n] fp64, symmetric; becomes R, upper triangular with zeros below, M = RᵀR
  Tensor inverse;    // [n, n] fp64: R⁻¹, hence M⁻¹ = R⁻¹ R⁻ᵀ
  Tensor workspace;  // [kGramFactorRows, n] fp64, contiguous
};

// False where M is not positive definite, or not finite: what the matrices hold is then of no use. Waits for the
// stream. Nothing aliases. Deterministic. The error is that of Cholesky's factorisation by blocks; only the inverses of
// the blocks on the diagonal are multiplied with.
absl::StatusOr<bool> FactorGram(const GramFactorArgs& args, Stream& stream);

// 1 / (‖M‖₂ ‖M⁻¹‖₂) by a few steps of power iteration: not below it, above it by a factor of two or three at most in
// practice, by n^1.5 in any case. `gram`: M itself. Waits for the stream.
absl::StatusOr<double> ReciprocalCondition(const Tensor& gram, const Tensor& inverse, const Tensor& workspace,
                                           Stream& stream);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_GRAM_FACTOR_H_
