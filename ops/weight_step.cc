#include "ops/weight_step.h"

#include <absl/strings/str_cat.h>

#include "ops/check.h"
#include "ops/cost.h"
#include "ops/operator.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

absl::Status CheckArguments(const WeightStepArgs& args, Device device) {
  constexpr char kOp[] = "WeightStep";
  const DType type = args.weight.dtype;
  const int64_t count = args.weight.columns;
  if (type != DType::kFloat32 && type != DType::kFloat64) {
    return absl::InvalidArgumentError(
        absl::StrCat(kOp, ": weight is ", args.weight.Describe(), "; needs fp32 or fp64"));
  }
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "weight", args.weight, type, 1, count));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "direction", args.direction, type, 1, count));
  if (args.compute_weight.defined()) {
    ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "compute_weight", args.compute_weight, DType::kBFloat16, 1, count));
  }
  return CheckDevice(kOp, args.weight, device);
}

}  // namespace

OperatorCost WeightStepArgs::Cost() const {
  return MemoryPass("weight step", {direction, weight, weight, compute_weight});
}

absl::Status WeightStep(const WeightStepArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  return Dispatch<cpu::WeightStep, cuda::WeightStep>(args, stream);
}

}  // namespace isthmus
