#include "ops/elementwise.h"

#include <absl/strings/str_cat.h>

#include "ops/check.h"
#include "ops/cost.h"
#include "ops/operator.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

absl::Status CheckArguments(const AddArgs& args, Device device) {
  ISTHMUS_RETURN_IF_ERROR(CheckFloating("Add", "x", args.x));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor("Add", "y", args.y, args.x.dtype, args.x.rows, args.x.columns));
  return CheckDevice("Add", args.x, device);
}

// Checks x and y of an operator that has fp32 and fp64.
template <typename Args>
absl::Status CheckWidePair(const char* op, const Args& args, Device device) {
  const DType type = args.x.dtype;
  const int64_t rows = args.x.rows, columns = args.x.columns;
  if (type != DType::kFloat32 && type != DType::kFloat64) {
    return absl::InvalidArgumentError(absl::StrCat(op, ": x is ", args.x.Describe(), "; needs fp32 or fp64"));
  }
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(op, "x", args.x, type, rows, columns));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(op, "y", args.y, type, rows, columns));
  return CheckDevice(op, args.x, device);
}

absl::Status CheckArguments(const NormaliseArgs& args, Device device) {
  constexpr char kOp[] = "Normalise";
  const DType type = args.x.dtype;
  if (type != DType::kFloat32 && type != DType::kFloat64) {
    return absl::InvalidArgumentError(absl::StrCat(kOp, ": x is ", args.x.Describe(), "; needs fp32 or fp64"));
  }
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "x", args.x, type, args.x.rows, args.x.columns));
  return CheckDevice(kOp, args.x, device);
}

absl::Status CheckArguments(const ScaleToNormArgs& args, Device device) {
  ISTHMUS_RETURN_IF_ERROR(CheckFloating("ScaleToNorm", "x", args.x));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor("ScaleToNorm", "squares", args.squares, DType::kFloat64, 1, 2));
  return CheckDevice("ScaleToNorm", args.x, device);
}

absl::Status CheckArguments(const CastArgs& args) {
  ISTHMUS_RETURN_IF_ERROR(CheckFloating("Cast", "x", args.x));
  ISTHMUS_RETURN_IF_ERROR(CheckFloating("Cast", "y", args.y));
  return CheckTensor("Cast", "y", args.y, args.y.dtype, args.x.rows, args.x.columns);
}

absl::Status CheckArguments(const SetZeroArgs& args) {
  return CheckTensor("SetZero", "x", args.x, args.x.dtype, args.x.rows, args.x.columns);
}

// Checks x and total of a sum.
template <typename Args>
absl::Status CheckSum(const char* op, const Args& args) {
  ISTHMUS_RETURN_IF_ERROR(CheckFloating(op, "x", args.x));
  return CheckTensor(op, "total", args.total, DType::kFloat64, 1, 1);
}

}  // namespace

OperatorCost AddArgs::Cost() const { return MemoryPass("addition", {x, y, y}); }

absl::Status Add(const AddArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  return Dispatch<cpu::Add, cuda::Add>(args, stream);
}

OperatorCost SubtractFromArgs::Cost() const { return MemoryPass("subtraction", {x, y, y}); }

absl::Status SubtractFrom(const SubtractFromArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckWidePair("SubtractFrom", args, stream.device()));
  return Dispatch<cpu::SubtractFrom, cuda::SubtractFrom>(args, stream);
}

OperatorCost CombineArgs::Cost() const { return MemoryPass("combination", {x, y_factor == 0 ? ConstTensor() : y, y}); }

absl::Status Combine(const CombineArgs& args, Stream& stream) {
  // Matrices of the head are fp64 on every device.
  ISTHMUS_RETURN_IF_ERROR(CheckWidePair("Combine", args, Device::kCpu));
  return Dispatch<cpu::Combine, cuda::Combine>(args, stream);
}

OperatorCost NormaliseArgs::Cost() const { return MemoryPass("normalisation", {x, x, x}); }

absl::Status Normalise(const NormaliseArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  return Dispatch<cpu::Normalise, cuda::Normalise>(args, stream);
}

OperatorCost ScaleToNormArgs::Cost() const { return MemoryPass("scaling to a norm", {x, x}); }

absl::Status ScaleToNorm(const ScaleToNormArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  return Dispatch<cpu::ScaleToNorm, cuda::ScaleToNorm>(args, stream);
}

OperatorCost CastArgs::Cost() const { return MemoryPass("conversion", {x, y}); }

absl::Status Cast(const CastArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args));
  return Dispatch<cpu::Cast, cuda::Cast>(args, stream);
}

OperatorCost SetZeroArgs::Cost() const { return MemoryPass("zero", {x}); }

absl::Status SetZero(const SetZeroArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args));
  return Dispatch<cpu::SetZero, cuda::SetZero>(args, stream);
}

OperatorCost AddSumArgs::Cost() const { return MemoryPass("sum", {x}); }

absl::Status AddSum(const AddSumArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckSum("AddSum", args));
  return Dispatch<cpu::AddSum, cuda::AddSum>(args, stream);
}

OperatorCost AddSumOfSquaresArgs::Cost() const { return MemoryPass("sum of squares", {x}); }

absl::Status AddSumOfSquares(const AddSumOfSquaresArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckSum("AddSumOfSquares", args));
  return Dispatch<cpu::AddSumOfSquares, cuda::AddSumOfSquares>(args, stream);
}

OperatorCost AddDotArgs::Cost() const { return MemoryPass("inner product", {x, y}); }

absl::Status AddDot(const AddDotArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckSum("AddDot", args));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor("AddDot", "y", args.y, args.x.dtype, args.x.rows, args.x.columns));
  return Dispatch<cpu::AddDot, cuda::AddDot>(args, stream);
}

}  // namespace isthmus
