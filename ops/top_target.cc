#include "ops/top_target.h"

#include <absl/strings/str_cat.h>

#include "ops/check.h"
#include "ops/cost.h"
#include "ops/operator.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

absl::Status CheckLogitType(const char* op, const char* name, const ConstTensor& tensor) {
  if (tensor.dtype == DType::kFloat32 || tensor.dtype == DType::kFloat64) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(op, ": ", name, " are ", tensor.Describe(), "; need fp32 or fp64"));
}

absl::Status CheckArguments(const TargetRivalsArgs& args, Device device) {
  constexpr char kOp[] = "TargetRivals";
  const int64_t tokens = args.logits.rows;
  ISTHMUS_RETURN_IF_ERROR(CheckLogitType(kOp, "logits", args.logits));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "targets", args.targets, DType::kInt32, 1, tokens));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "rivals", args.rivals, args.logits.dtype, tokens, 2));
  return CheckDevice(kOp, args.logits, device);
}

absl::Status CheckArguments(const TopTargetsArgs& args, Device device) {
  constexpr char kOp[] = "TopTargets";
  ISTHMUS_RETURN_IF_ERROR(CheckLogitType(kOp, "gathered", args.gathered));
  ISTHMUS_RETURN_IF_ERROR(
      CheckTensor(kOp, "gathered", args.gathered, args.gathered.dtype, args.shards * args.top.columns, 2));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "top", args.top, DType::kInt32, 1, args.top.columns));
  return CheckDevice(kOp, args.gathered, device);
}

}  // namespace

OperatorCost TargetRivalsArgs::Cost() const { return MemoryPass("rivals of targets", {logits, targets, rivals}); }

absl::Status TargetRivals(const TargetRivalsArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  return Dispatch<cpu::TargetRivals, cuda::TargetRivals>(args, stream);
}

OperatorCost TopTargetsArgs::Cost() const { return MemoryPass("top targets", {gathered, top}); }

absl::Status TopTargets(const TopTargetsArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  return Dispatch<cpu::TopTargets, cuda::TopTargets>(args, stream);
}

}  // namespace isthmus
