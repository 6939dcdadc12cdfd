#include "ops/layer_norm.h"

#include "ops/check.h"
#include "ops/cost.h"
#include "ops/operator.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

absl::Status CheckArguments(const LayerNormForwardArgs& args, Device device) {
  constexpr char kOp[] = "LayerNormForward";
  const DType type = args.x.dtype;
  const int64_t rows = args.x.rows, width = args.x.columns;
  ISTHMUS_RETURN_IF_ERROR(CheckFloating(kOp, "x", args.x));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "weight", args.weight, type, 1, width));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "bias", args.bias, type, 1, width));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "y", args.y, type, rows, width));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "statistics", args.statistics, AccumulationType(type), 2, rows));
  if (args.addend.defined()) {
    ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "addend", args.addend, type, rows, width));
    ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "sum", args.sum, type, rows, width));
  }
  return CheckDevice(kOp, args.x, device);
}

absl::Status CheckArguments(const LayerNormBackwardArgs& args, Device device) {
  constexpr char kOp[] = "LayerNormBackward";
  const DType type = args.x.dtype, sum_type = AccumulationType(type);
  const int64_t rows = args.x.rows, width = args.x.columns;
  ISTHMUS_RETURN_IF_ERROR(CheckFloating(kOp, "x", args.x));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "grad_y", args.grad_y, type, rows, width));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "weight", args.weight, type, 1, width));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "statistics", args.statistics, sum_type, 2, rows));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "grad_x", args.grad_x, type, rows, width));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "grad_weight", args.grad_weight, sum_type, 1, width));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "grad_bias", args.grad_bias, sum_type, 1, width));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "workspace", args.workspace, sum_type, LayerNormWorkspaceRows(rows), width));
  return CheckDevice(kOp, args.x, device);
}

}  // namespace

OperatorCost LayerNormForwardArgs::Cost() const { return MemoryPass("layer norm", {x, addend, sum, y}); }

absl::Status LayerNormForward(const LayerNormForwardArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  return Dispatch<cpu::LayerNormForward, cuda::LayerNormForward>(args, stream);
}

OperatorCost LayerNormBackwardArgs::Cost() const {
  return MemoryPass("layer norm backward", {grad_y, x, grad_x, accumulate ? grad_x : ConstTensor()},
                    /*kernels=*/3);
}

absl::Status LayerNormBackward(const LayerNormBackwardArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  return Dispatch<cpu::LayerNormBackward, cuda::LayerNormBackward>(args, stream);
}

}  // namespace isthmus
