#include "ops/reductions.h"

#include "ops/check.h"
#include "ops/cost.h"
#include "ops/operator.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

absl::Status CheckArguments(const RowDotsArgs& args) {
  ISTHMUS_RETURN_IF_ERROR(CheckFloating("RowDots", "x", args.x));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor("RowDots", "y", args.y, args.x.dtype, args.x.rows, args.x.columns));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor("RowDots", "dots", args.dots, DType::kFloat64, 1, args.x.rows));
  return absl::OkStatus();
}

absl::Status CheckArguments(const AddColumnSumsArgs& args) {
  ISTHMUS_RETURN_IF_ERROR(CheckFloating("AddColumnSums", "x", args.x));
  return CheckTensor("AddColumnSums", "total", args.total, DType::kFloat64, 1, args.x.columns);
}

absl::Status CheckArguments(const AddColumnSquaresArgs& args) {
  ISTHMUS_RETURN_IF_ERROR(CheckFloating("AddColumnSquares", "x", args.x));
  return CheckTensor("AddColumnSquares", "total", args.total, DType::kFloat64, 1, args.x.columns);
}

absl::Status CheckArguments(const AddUnitRowsArgs& args) {
  ISTHMUS_RETURN_IF_ERROR(CheckFloating("AddUnitRows", "x", args.x));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor("AddUnitRows", "squares", args.squares, DType::kFloat64, 1, args.x.rows));
  return CheckTensor("AddUnitRows", "total", args.total, DType::kFloat64, 1, args.x.columns);
}

}  // namespace

OperatorCost RowDotsArgs::Cost() const {
  const bool same = x.data == y.data;
  return MemoryPass("row products", {x, same ? ConstTensor() : y, dots});
}

absl::Status RowDots(const RowDotsArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args));
  return Dispatch<cpu::RowDots, cuda::RowDots>(args, stream);
}

OperatorCost AddColumnSumsArgs::Cost() const { return MemoryPass("column sums", {x, total, total}); }

absl::Status AddColumnSums(const AddColumnSumsArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args));
  return Dispatch<cpu::AddColumnSums, cuda::AddColumnSums>(args, stream);
}

OperatorCost AddColumnSquaresArgs::Cost() const { return MemoryPass("column squares", {x, total, total}); }

absl::Status AddColumnSquares(const AddColumnSquaresArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args));
  return Dispatch<cpu::AddColumnSquares, cuda::AddColumnSquares>(args, stream);
}

OperatorCost AddUnitRowsArgs::Cost() const { return MemoryPass("sum of directions", {x, total, total}); }

absl::Status AddUnitRows(const AddUnitRowsArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args));
  return Dispatch<cpu::AddUnitRows, cuda::AddUnitRows>(args, stream);
}

}  // namespace isthmus
