// Layer normalisation over the last axis (Ba et al. 2016, arXiv:1607.06450, eq. 4), fused with the residual addition
// before it.
//
//   s[n, d] = x[n, d] + addend[n, d]                                  (s = x without an addend)
//   y[n, d] = (s[n, d] - m[n]) * r[n] * weight[d] + bias[d]
//   m[n] = mean_d(s[n, d]),   r[n] = 1 / sqrt(mean_d((s[n, d] - m[n])^2) + epsilon)
//
//   x, addend, sum, y   [N, D]  fp32 | bf16 | fp64; sum may alias x; y aliases nothing
//   weight, bias        [1, D]  dtype of x
//   statistics          [2, N]  fp32 (fp64 with fp64 x): m, then r, saved for the backward pass
//
// The mean is found first, and the squares are those of what is left without it. If their sum overflows, r and the
// row's y are NaN. The formula would give r = 0, and the row would be the bias without a gradient, which looks sound.
//
// Statistics are kept in fp32 (fp64 for fp64). The normalised value uses s as it is stored in the dtype of x. The
// result is deterministic for any number of threads. Errors: InvalidArgument when shapes or dtypes disagree.
#ifndef ISTHMUS_OPS_LAYER_NORM_H_
#define ISTHMUS_OPS_LAYER_NORM_H_

#include <absl/status/status.h>

#include "runtime/operator_cost.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

struct LayerNormForwardArgs {
  ConstTensor x;
  ConstTensor addend;  // optional
  Tensor sum;          // receives s; needed with an addend
  ConstTensor weight;
  ConstTensor bias;
  Tensor y;
  Tensor statistics;
  double epsilon = 1e-5;

  OperatorCost Cost() const;
};

absl::Status LayerNormForward(const LayerNormForwardArgs& args, Stream& stream);

// Gradient of the above with respect to s, weight and bias. With h[n, d] = (s[n, d] - m[n]) * r[n]:
//
//   g[n, d]            = grad_y[n, d] * weight[d]
//   grad_x[n, d]      += r[n] * (g[n, d] - mean_d(g[n, :]) - h[n, d] * mean_d(g[n, :] · h[n, :]))
//   grad_weight[d]    += Σ_n grad_y[n, d] * h[n, d]
//   grad_bias[d]      += Σ_n grad_y[n, d]
//
//   grad_y, x (= s), grad_x   [N, D]   as above; grad_x holds the residual stream's gradient and is added to
//   grad_weight, grad_bias    [1, D]   fp32 (fp64 with fp64 x), added to
//   workspace                 fp32 (fp64) [LayerNormWorkspaceRows(N), D]; partial sums over fixed blocks of rows
struct LayerNormBackwardArgs {
  ConstTensor grad_y;
  ConstTensor x;
  ConstTensor weight;
  ConstTensor statistics;
  Tensor grad_x;
  Tensor grad_weight;
  Tensor grad_bias;
  Tensor workspace;
  bool accumulate = true;  // false: grad_x is overwritten instead of added to

  OperatorCost Cost() const;
};

// Number of rows whose sums are formed one after another. It is fixed, so that the bits do not depend on the number of
// threads.
inline constexpr int64_t kLayerNormRowBlock = 64;
// Each block of rows has a row of the weight's sums. Rows of the bias's sums follow all of these.
constexpr int64_t LayerNormWorkspaceRows(int64_t rows) {
  return 2 * ((rows + kLayerNormRowBlock - 1) / kLayerNormRowBlock);
}
absl::Status LayerNormBackward(const LayerNormBackwardArgs& args, Stream& stream);

// The implementations take checked arguments.
namespace cpu {
absl::Status LayerNormForward(const LayerNormForwardArgs& args);
absl::Status LayerNormBackward(const LayerNormBackwardArgs& args);
}  // namespace cpu
namespace cuda {
absl::Status LayerNormForward(const LayerNormForwardArgs& args, const Context& context);
absl::Status LayerNormBackward(const LayerNormBackwardArgs& args, const Context& context);
}  // namespace cuda

}  // namespace isthmus

#endif  // ISTHMUS_OPS_LAYER_NORM_H_
