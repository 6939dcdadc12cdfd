// SwiGLU (Shazeer 2020, arXiv:2002.05202, eq. 6): y = silu(gate) * up, silu(a) = a / (1 + exp(-a)).
//
//   gate_up, grad_gate_up   [N, 2F]  fp32 | bf16 | fp64: columns [0, F) gate, [F, 2F) up
//   y, grad_y               [N, F]   dtype of gate_up
//
// grad_gate_up may alias gate_up; nothing else may alias. bf16 is computed in fp32. `y` of the backward pass is
// optional: if given, it receives the forward result again, which then need not be kept. The result is deterministic.
// Errors: InvalidArgument when shapes or dtypes disagree.
#ifndef ISTHMUS_OPS_SWIGLU_H_
#define ISTHMUS_OPS_SWIGLU_H_

#include <absl/status/status.h>

#include "runtime/operator_cost.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

struct SwigluForwardArgs {
  ConstTensor gate_up;
  Tensor y;

  OperatorCost Cost() const;
};

absl::Status SwigluForward(const SwigluForwardArgs& args, Stream& stream);

struct SwigluBackwardArgs {
  ConstTensor grad_y;
  ConstTensor gate_up;
  Tensor grad_gate_up;
  Tensor y;  // optional

  OperatorCost Cost() const;
};

absl::Status SwigluBackward(const SwigluBackwardArgs& args, Stream& stream);

// The implementations take checked arguments.
namespace cpu {
absl::Status SwigluForward(const SwigluForwardArgs& args);
absl::Status SwigluBackward(const SwigluBackwardArgs& args);
}  // namespace cpu
namespace cuda {
absl::Status SwigluForward(const SwigluForwardArgs& args, const Context& context);
absl::Status SwigluBackward(const SwigluBackwardArgs& args, const Context& context);
}  // namespace cuda

}  // namespace isthmus

#endif  // ISTHMUS_OPS_SWIGLU_H_
