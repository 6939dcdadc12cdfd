// The hyperbolic tangent. Its backward pass takes a factor for each row, as the components of a mixture have it:
//
//   forward    y = tanh(x)
//   backward   grad_x[n, d] = factors[n] grad_y[n, d] (1 - y[n, d]²),   and y[n, d] becomes factors[n] y[n, d]
//
//   x, y, grad_x, grad_y   [N, D]  fp32 | bf16 | fp64, any row stride
//   factors                [1, N]  fp32 (fp64 with fp64 y)
//
// y may alias x, and grad_x may alias grad_y; nothing else may alias. bf16 is computed in fp32. The result is
// deterministic. Errors: InvalidArgument when shapes or dtypes disagree.
#ifndef ISTHMUS_OPS_TANH_H_
#define ISTHMUS_OPS_TANH_H_

#include <absl/status/status.h>

#include "runtime/operator_cost.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

struct TanhForwardArgs {
  ConstTensor x;
  Tensor y;

  OperatorCost Cost() const;
};

absl::Status TanhForward(const TanhForwardArgs& args, Stream& stream);

struct TanhBackwardArgs {
  ConstTensor grad_y;
  Tensor y;
  ConstTensor factors;
  Tensor grad_x;

  OperatorCost Cost() const;
};

absl::Status TanhBackward(const TanhBackwardArgs& args, Stream& stream);

// The implementations take checked arguments.
namespace cpu {
absl::Status TanhForward(const TanhForwardArgs& args);
absl::Status TanhBackward(const TanhBackwardArgs& args);
}  // namespace cpu
namespace cuda {
absl::Status TanhForward(const TanhForwardArgs& args, const Context& context);
absl::Status TanhBackward(const TanhBackwardArgs& args, const Context& context);
}  // namespace cuda

}  // namespace isthmus

#endif  // ISTHMUS_OPS_TANH_H_
