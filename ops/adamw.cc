#include "ops/adamw.h"

#include <absl/strings/str_cat.h>

#include "ops/check.h"
#include "ops/cost.h"
#include "ops/operator.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

absl::Status CheckArguments(const AdamWArgs& args, Device device) {
  constexpr char kOp[] = "AdamW";
  const DType type = args.weight.dtype;
  const int64_t count = args.weight.columns;
  if (type != DType::kFloat32 && type != DType::kFloat64) {
    return absl::InvalidArgumentError(
        absl::StrCat(kOp, ": weight is ", args.weight.Describe(), "; needs fp32 or fp64"));
  }
  if (args.step < 1) return absl::InvalidArgumentError(absl::StrCat(kOp, ": step ", args.step, "; counts from 1"));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "weight", args.weight, type, 1, count));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "grad", args.grad, type, 1, count));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "first_moment", args.first_moment, type, 1, count));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "second_moment", args.second_moment, type, 1, count));
  if (args.max_second_moment.defined()) {
    ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "max_second_moment", args.max_second_moment, type, 1, count));
  }
  if (args.compute_weight.defined()) {
    ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "compute_weight", args.compute_weight, DType::kBFloat16, 1, count));
  }
  return CheckDevice(kOp, args.weight, device);
}

}  // namespace

OperatorCost AdamWArgs::Cost() const {
  return MemoryPass("AdamW", {grad, weight, weight, first_moment, first_moment, second_moment, second_moment,
                              max_second_moment, max_second_moment, compute_weight});
}

absl::Status AdamW(const AdamWArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  return Dispatch<cpu::AdamW, cuda::AdamW>(args, stream);
}

}  // namespace isthmus
