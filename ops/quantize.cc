#include "ops/quantize.h"

#include <absl/strings/str_cat.h>

#include "ops/check.h"
#include "ops/cost.h"
#include "ops/operator.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

absl::Status CheckArguments(const QuantizeArgs& args) {
  constexpr char kOp[] = "Quantize";
  const DType type = args.y.defined() ? args.y.dtype : args.transposed.dtype;
  const int64_t rows = args.x.rows, columns = args.x.columns;
  if (args.x.dtype != DType::kFloat32 && args.x.dtype != DType::kBFloat16) {
    return absl::InvalidArgumentError(absl::StrCat(kOp, ": x is ", args.x.Describe(), "; needs fp32 or bf16"));
  }
  ISTHMUS_RETURN_IF_ERROR(CheckFloating(kOp, "x", args.x));
  if (!IsFloat8(type) || (!args.y.defined() && !args.transposed.defined())) {
    return absl::InvalidArgumentError(absl::StrCat(kOp, ": y is ", args.y.Describe(), ", transposed is ",
                                                   args.transposed.Describe(),
                                                   "; needs one of them or both, fp8_e4m3 or fp8_e5m2"));
  }
  if (args.y.defined()) ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "y", args.y, type, rows, columns));
  if (args.transposed.defined()) {
    ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "transposed", args.transposed, type, columns, rows));
  }
  return CheckTensor(kOp, "inverse", args.inverse, DType::kFloat32, 1, 1);
}

}  // namespace

OperatorCost QuantizeArgs::Cost() const { return MemoryPass("quantisation", {x, x, y, transposed}, /*kernels=*/2); }

absl::Status Quantize(const QuantizeArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args));
  return Dispatch<cpu::Quantize, cuda::Quantize>(args, stream);
}

}  // namespace isthmus
