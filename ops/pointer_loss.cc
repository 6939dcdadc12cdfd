#include "ops/pointer_loss.h"

#include <absl/strings/str_cat.h>

#include "ops/check.h"
#include "ops/cost.h"
#include "ops/operator.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

absl::Status CheckArguments(const PointerLossArgs& args, Device device) {
  constexpr char kOp[] = "PointerLoss";
  const DType type = args.loss.dtype;
  const int64_t tokens = args.loss.columns;
  if (type != DType::kFloat32 && type != DType::kFloat64) {
    return absl::InvalidArgumentError(absl::StrCat(kOp, ": loss is ", args.loss.Describe(), "; needs fp32 or fp64"));
  }
  const auto check = [&](const char* name, const ConstTensor& tensor) {
    return CheckTensor(kOp, name, tensor, type, 1, tokens);
  };
  ISTHMUS_RETURN_IF_ERROR(check("loss", args.loss));
  ISTHMUS_RETURN_IF_ERROR(check("vocabulary_loss", args.vocabulary_loss));
  ISTHMUS_RETURN_IF_ERROR(check("log_sum_exp", args.log_sum_exp));
  ISTHMUS_RETURN_IF_ERROR(check("pointer_log_sum_exp", args.pointer_log_sum_exp));
  ISTHMUS_RETURN_IF_ERROR(check("log_match", args.log_match));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "slot", args.slot, type, tokens, 1));
  const bool rounded = type == DType::kFloat32 && args.sink.dtype == DType::kBFloat16;
  const DType input_type = rounded ? DType::kBFloat16 : type;
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "sink", args.sink, input_type, 1, 1));
  if (args.target_weight.defined()) {
    ISTHMUS_RETURN_IF_ERROR(check("target_weight", args.target_weight));
    ISTHMUS_RETURN_IF_ERROR(check("excess_weight", args.excess_weight));
    ISTHMUS_RETURN_IF_ERROR(check("grad_log_match", args.grad_log_match));
    ISTHMUS_RETURN_IF_ERROR(check("grad_log_sink", args.grad_log_sink));
    ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "grad_slot", args.grad_slot, input_type, tokens, 1));
  }
  return CheckDevice(kOp, args.loss, device);
}

}  // namespace

OperatorCost PointerLossArgs::Cost() const {
  return MemoryPass("pointer loss", {vocabulary_loss, log_sum_exp, pointer_log_sum_exp, log_match, slot, loss,
                                     target_weight, excess_weight, grad_log_match, grad_log_sink, grad_slot});
}

absl::Status PointerLoss(const PointerLossArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  return Dispatch<cpu::PointerLoss, cuda::PointerLoss>(args, stream);
}

}  // namespace isthmus
