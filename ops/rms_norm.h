// Root-mean-square normalisation over the last axis (Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4), fused with the
// residual addition before it.
//
//   s[n, d] = x[n, d] + addend[n, d]                     (s = x without an addend)
//   y[n, d] = s[n, d] * r[n] * weight[d],   r[n] = 1 / sqrt(mean_d(s[n, d]^2) + epsilon)
//
//   x, addend, sum, y   [N, D]  fp32 | bf16 | fp64; sum may alias x; y aliases nothing
//   weight              [1, D]  dtype of x
//   inverse             [1, N]  fp32 (fp64 with fp64 x): r, saved for the backward pass
//
// If the sum of squares of a row overflows, r and the row's y are NaN. The formula would give r = 0, and the row would
// be zeros without a gradient, which looks sound.
//
// Statistics are kept in fp32 (fp64 for fp64). The normalised value uses s as it is stored in the dtype of x. The
// result is deterministic for any number of threads. Errors: InvalidArgument when shapes or dtypes disagree.
#ifndef ISTHMUS_OPS_RMS_NORM_H_
#define ISTHMUS_OPS_RMS_NORM_H_

#include <absl/status/status.h>

#include "runtime/operator_cost.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

struct RmsNormForwardArgs {
  ConstTensor x;
  ConstTensor addend;  // optional
  Tensor sum;          // receives s; needed with an addend
  ConstTensor weight;
  Tensor y;
  Tensor inverse;
  double epsilon = 1e-5;

  OperatorCost Cost() const;
};

absl::Status RmsNormForward(const RmsNormForwardArgs& args, Stream& stream);

// Gradient of the above with respect to s and weight:
//
//   g[n, d]            = grad_y[n, d] * weight[d]
//   grad_x[n, d]      += r[n] * (g[n, d] - s[n, d] * r[n]^2 * mean_d(g[n, :] · s[n, :]))
//   grad_weight[d]    += Σ_n grad_y[n, d] * s[n, d] * r[n]
//
//   grad_y, x (= s), grad_x   [N, D]   as above; grad_x holds the residual stream's gradient and is added to
//   grad_weight               [1, D]   fp32 (fp64 with fp64 x), added to
//   workspace                 fp32 (fp64) [RmsNormWorkspaceRows(N), D]; partial sums over fixed blocks of rows
struct RmsNormBackwardArgs {
  ConstTensor grad_y;
  ConstTensor x;
  ConstTensor weight;
  ConstTensor inverse;
  Tensor grad_x;
  Tensor grad_weight;
  Tensor workspace;
  bool accumulate = true;  // false: grad_x is overwritten instead of added to

  OperatorCost Cost() const;
};

// Number of rows whose sums are formed one after another. It is fixed, so that the bits do not depend on the number of
// threads.
inline constexpr int64_t kRmsNormRowBlock = 64;
constexpr int64_t RmsNormWorkspaceRows(int64_t rows) { return (rows + kRmsNormRowBlock - 1) / kRmsNormRowBlock; }
absl::Status RmsNormBackward(const RmsNormBackwardArgs& args, Stream& stream);

// The implementations take checked arguments.
namespace cpu {
absl::Status RmsNormForward(const RmsNormForwardArgs& args);
absl::Status RmsNormBackward(const RmsNormBackwardArgs& args);
}  // namespace cpu
namespace cuda {
absl::Status RmsNormForward(const RmsNormForwardArgs& args, const Context& context);
absl::Status RmsNormBackward(const RmsNormBackwardArgs& args, const Context& context);
}  // namespace cuda

}  // namespace isthmus

#endif  // ISTHMUS_OPS_RMS_NORM_H_
