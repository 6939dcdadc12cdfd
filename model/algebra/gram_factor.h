// Finds the Cholesky factor of a Gram matrix, its inverse and its condition, in fp64 on the stream's device. A head of
// 4,096 columns takes some 10¹¹ operations. They are matrix products but for small blocks on the diagonal, which the
// host factors.
#ifndef ISTHMUS_MODEL_ALGEBRA_GRAM_FACTOR_H_
#define ISTHMUS_MODEL_ALGEBRA_GRAM_FACTOR_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>

#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

// The workspace for [n, n] matrices has this many rows.
inline constexpr int64_t kGramFactorRows = 320;

struct GramFactorArgs {
  Tensor gram;       // [n, n] fp64, symmetric; becomes R, upper triangular with zeros below, M = RᵀR
  Tensor inverse;    // [n, n] fp64: R⁻¹, hence M⁻¹ = R⁻¹ R⁻ᵀ
  Tensor workspace;  // [kGramFactorRows, n] fp64, contiguous
};

// Returns false if M is not positive definite, or not finite; the matrices' contents are then of no use. Waits for the
// stream. Nothing aliases. Deterministic. The error is that of Cholesky's factorisation by blocks. Products use only
// the inverses of the blocks on the diagonal.
absl::StatusOr<bool> FactorGram(const GramFactorArgs& args, Stream& stream);

// Estimates 1 / (‖M‖₂ ‖M⁻¹‖₂) by a few steps of power iteration. The estimate is never below it. It is above it by a
// factor of two or three at most in practice, by n^1.5 in any case. `gram` is M itself. Waits for the stream.
absl::StatusOr<double> ReciprocalCondition(const Tensor& gram, const Tensor& inverse, const Tensor& workspace,
                                           Stream& stream);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_ALGEBRA_GRAM_FACTOR_H_
