#include "ops/broadcast.h"

#include "ops/check.h"
#include "ops/cost.h"
#include "ops/operator.h"
#include "runtime/dtype.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

absl::Status CheckArguments(const AddRowArgs& args) {
  constexpr char kOp[] = "AddRow";
  ISTHMUS_RETURN_IF_ERROR(CheckFloating(kOp, "x", args.x));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "x", args.x, args.x.dtype, 1, args.x.columns));
  return CheckTensor(kOp, "y", args.y, AccumulationType(args.x.dtype), args.y.rows, args.x.columns);
}

absl::Status CheckArguments(const ScaleRowsArgs& args, Device device) {
  constexpr char kOp[] = "ScaleRows";
  const DType type = args.x.dtype;
  ISTHMUS_RETURN_IF_ERROR(CheckFloating(kOp, "x", args.x));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "y", args.y, type, args.x.rows, args.x.columns));
  const bool narrow = type == DType::kFloat32 && args.factors.dtype == DType::kBFloat16;
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "factors", args.factors, narrow ? DType::kBFloat16 : type, args.x.rows, 1));
  return CheckDevice(kOp, args.x, device);
}

}  // namespace

OperatorCost AddRowArgs::Cost() const { return MemoryPass("add row", {y, y, x}); }

absl::Status AddRow(const AddRowArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args));
  return Dispatch<cpu::AddRow, cuda::AddRow>(args, stream);
}

OperatorCost ScaleRowsArgs::Cost() const {
  return MemoryPass("scale rows", {x, y, factors, accumulate ? ConstTensor(y) : ConstTensor()});
}

absl::Status ScaleRows(const ScaleRowsArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  return Dispatch<cpu::ScaleRows, cuda::ScaleRows>(args, stream);
}

}  // namespace isthmus
