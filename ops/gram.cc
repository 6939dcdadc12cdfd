#include "ops/gram.h"

#include "ops/check.h"
#include "ops/cost.h"
#include "ops/operator.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

absl::Status CheckArguments(const GramArgs& args) {
  ISTHMUS_RETURN_IF_ERROR(CheckFloating("Gram", "x", args.x));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor("Gram", "y", args.y, args.x.dtype, args.x.rows, args.y.columns));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor("Gram", "c", args.c, DType::kFloat64, args.x.columns, args.y.columns));
  if (args.x.dtype == DType::kFloat64) return absl::OkStatus();
  return CheckTensor("Gram", "workspace", args.workspace, DType::kFloat32, args.x.columns, args.y.columns);
}

}  // namespace

OperatorCost GramArgs::Cost() const { return ProductCost("Gram matrix", x, y, c, x.rows, /*accumulate=*/true); }

absl::Status Gram(const GramArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args));
  return Dispatch<cpu::Gram, cuda::Gram>(args, stream);
}

}  // namespace isthmus
