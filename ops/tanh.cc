#include "ops/tanh.h"

#include "ops/check.h"
#include "ops/cost.h"
#include "ops/operator.h"
#include "runtime/dtype.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

absl::Status CheckArguments(const TanhForwardArgs& args, Device device) {
  constexpr char kOp[] = "TanhForward";
  ISTHMUS_RETURN_IF_ERROR(CheckFloating(kOp, "x", args.x));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "y", args.y, args.x.dtype, args.x.rows, args.x.columns));
  return CheckDevice(kOp, args.x, device);
}

absl::Status CheckArguments(const TanhBackwardArgs& args, Device device) {
  constexpr char kOp[] = "TanhBackward";
  const DType type = args.y.dtype;
  const int64_t rows = args.y.rows, columns = args.y.columns;
  ISTHMUS_RETURN_IF_ERROR(CheckFloating(kOp, "y", args.y));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "grad_y", args.grad_y, type, rows, columns));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "factors", args.factors, AccumulationType(type), 1, rows));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "grad_x", args.grad_x, type, rows, columns));
  return CheckDevice(kOp, args.y, device);
}

}  // namespace

OperatorCost TanhForwardArgs::Cost() const { return MemoryPass("tanh", {x, y}); }

absl::Status TanhForward(const TanhForwardArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  return Dispatch<cpu::TanhForward, cuda::TanhForward>(args, stream);
}

OperatorCost TanhBackwardArgs::Cost() const { return MemoryPass("tanh backward", {grad_y, y, y, factors, grad_x}); }

absl::Status TanhBackward(const TanhBackwardArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  return Dispatch<cpu::TanhBackward, cuda::TanhBackward>(args, stream);
}

}  // namespace isthmus
