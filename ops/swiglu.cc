#include "ops/swiglu.h"

#include "ops/check.h"
#include "ops/cost.h"
#include "ops/operator.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

absl::Status CheckArguments(const SwigluForwardArgs& args, Device device) {
  constexpr char kOp[] = "SwigluForward";
  ISTHMUS_RETURN_IF_ERROR(CheckFloating(kOp, "y", args.y));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "gate_up", args.gate_up, args.y.dtype, args.y.rows, 2 * args.y.columns));
  return CheckDevice(kOp, args.y, device);
}

absl::Status CheckArguments(const SwigluBackwardArgs& args, Device device) {
  constexpr char kOp[] = "SwigluBackward";
  const DType type = args.grad_y.dtype;
  const int64_t rows = args.grad_y.rows, features = args.grad_y.columns;
  ISTHMUS_RETURN_IF_ERROR(CheckFloating(kOp, "grad_y", args.grad_y));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "gate_up", args.gate_up, type, rows, 2 * features));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "grad_gate_up", args.grad_gate_up, type, rows, 2 * features));
  if (args.y.defined()) ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "y", args.y, type, rows, features));
  return CheckDevice(kOp, args.grad_y, device);
}

}  // namespace

OperatorCost SwigluForwardArgs::Cost() const { return MemoryPass("SwiGLU", {gate_up, y}); }

absl::Status SwigluForward(const SwigluForwardArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  return Dispatch<cpu::SwigluForward, cuda::SwigluForward>(args, stream);
}

OperatorCost SwigluBackwardArgs::Cost() const {
  return MemoryPass("SwiGLU backward", {grad_y, gate_up, grad_gate_up, y});
}

absl::Status SwigluBackward(const SwigluBackwardArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  return Dispatch<cpu::SwigluBackward, cuda::SwigluBackward>(args, stream);
}

}  // namespace isthmus
