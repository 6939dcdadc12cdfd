#include "ops/embedding.h"

#include <absl/strings/str_cat.h>

#include <cstdint>

#include "ops/check.h"
#include "ops/cost.h"
#include "ops/operator.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

absl::Status CheckArguments(const EmbeddingForwardArgs& args, Device device) {
  constexpr char kOp[] = "EmbeddingForward";
  ISTHMUS_RETURN_IF_ERROR(CheckFloating(kOp, "y", args.y));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "ids", args.ids, DType::kInt32, 1, args.y.rows));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "table", args.table, args.y.dtype, args.table.rows, args.y.columns));
  return CheckDevice(kOp, args.y, device);
}

absl::Status CheckArguments(const EmbeddingBackwardArgs& args, Device device) {
  constexpr char kOp[] = "EmbeddingBackward";
  const int64_t tokens = args.grad_y.rows;
  ISTHMUS_RETURN_IF_ERROR(CheckFloating(kOp, "grad_y", args.grad_y));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "ids", args.ids, DType::kInt32, 1, tokens));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "grad_table", args.grad_table, AccumulationType(args.grad_y.dtype),
                                      args.grad_table.rows, args.grad_y.columns));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "workspace", args.workspace, DType::kInt32, 1, 2 * tokens));
  if (reinterpret_cast<uintptr_t>(args.workspace.data) % alignof(int64_t) != 0) {
    return absl::InvalidArgumentError(absl::StrCat(kOp, ": workspace is not aligned to 8 bytes"));
  }
  return CheckDevice(kOp, args.grad_y, device);
}

}  // namespace

OperatorCost EmbeddingForwardArgs::Cost() const { return MemoryPass("row look-up", {y, y}); }

absl::Status EmbeddingForward(const EmbeddingForwardArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  return Dispatch<cpu::EmbeddingForward, cuda::EmbeddingForward>(args, stream);
}

OperatorCost EmbeddingBackwardArgs::Cost() const {
  OperatorCost cost = MemoryPass("row addition", {grad_y}, /*kernels=*/3);
  // The pass reads and writes the rows of the ids.
  cost.bytes += 2 * static_cast<double>(grad_y.size() * SizeOf(grad_table.dtype));
  return cost;
}

absl::Status EmbeddingBackward(const EmbeddingBackwardArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  return Dispatch<cpu::EmbeddingBackward, cuda::EmbeddingBackward>(args, stream);
}

}  // namespace isthmus
