#include "ops/rms_norm.h"

#include "ops/check.h"
#include "ops/cost.h"
#include "ops/operator.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

absl::Status CheckArguments(const RmsNormForwardArgs& args, Device device) {
  constexpr char kOp[] = "RmsNormForward";
  const DType type = args.x.dtype;
  const int64_t rows = args.x.rows, width = args.x.columns;
  ISTHMUS_RETURN_IF_ERROR(CheckFloating(kOp, "x", args.x));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "weight", args.weight, type, 1, width));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "y", args.y, type, rows, width));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "inverse", args.inverse, AccumulationType(type), 1, rows));
  if (args.addend.defined()) {
    ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "addend", args.addend, type, rows, width));
    ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "sum", args.sum, type, rows, width));
  }
  return CheckDevice(kOp, args.x, device);
}

absl::Status CheckArguments(const RmsNormBackwardArgs& args, Device device) {
  constexpr char kOp[] = "RmsNormBackward";
  const DType type = args.x.dtype, sum_type = AccumulationType(type);
  const int64_t rows = args.x.rows, width = args.x.columns;
  ISTHMUS_RETURN_IF_ERROR(CheckFloating(kOp, "x", args.x));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "grad_y", args.grad_y, type, rows, width));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "weight", args.weight, type, 1, width));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "inverse", args.inverse, sum_type, 1, rows));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "grad_x", args.grad_x, type, rows, width));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "grad_weight", args.grad_weight, sum_type, 1, width));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "workspace", args.workspace, sum_type, RmsNormWorkspaceRows(rows), width));
  return CheckDevice(kOp, args.x, device);
}

}  // namespace

OperatorCost RmsNormForwardArgs::Cost() const { return MemoryPass("RMS norm", {x, addend, sum, y}); }

absl::Status RmsNormForward(const RmsNormForwardArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  return Dispatch<cpu::RmsNormForward, cuda::RmsNormForward>(args, stream);
}

OperatorCost RmsNormBackwardArgs::Cost() const {
  return MemoryPass("RMS norm backward", {grad_y, x, grad_x, accumulate ? grad_x : ConstTensor()},
                    /*kernels=*/2);
}

absl::Status RmsNormBackward(const RmsNormBackwardArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  return Dispatch<cpu::RmsNormBackward, cuda::RmsNormBackward>(args, stream);
}

}  // namespace isthmus
