#include "ops/future_targets.h"

#include <absl/strings/str_cat.h>

#include "ops/check.h"
#include "ops/cost.h"
#include "ops/cross_entropy.h"
#include "ops/operator.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

absl::Status CheckWide(const char* op, const char* name, const ConstTensor& tensor) {
  if (tensor.dtype == DType::kFloat32 || tensor.dtype == DType::kFloat64) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(op, ": ", name, " are ", tensor.Describe(), "; need fp32 or fp64"));
}

absl::Status CheckArguments(const FutureTargetLogitsArgs& args, Device device) {
  constexpr char kOp[] = "FutureTargetLogits";
  const int64_t tokens = args.logits.rows, offsets = args.targets.rows;
  ISTHMUS_RETURN_IF_ERROR(CheckWide(kOp, "logits", args.logits));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "targets", args.targets, DType::kInt32, offsets, tokens));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "target_logits", args.target_logits, args.logits.dtype, tokens, offsets));
  return CheckDevice(kOp, args.logits, device);
}

absl::Status CheckArguments(const FutureTargetLossesArgs& args, Device device) {
  constexpr char kOp[] = "FutureTargetLosses";
  const int64_t tokens = args.losses.columns, offsets = args.losses.rows;
  const DType type = args.gathered.dtype;
  ISTHMUS_RETURN_IF_ERROR(CheckWide(kOp, "gathered", args.gathered));
  ISTHMUS_RETURN_IF_ERROR(
      CheckTensor(kOp, "gathered", args.gathered, type, args.shards * tokens, kCrossEntropyStatistics + offsets));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "targets", args.targets, DType::kInt32, 1 + offsets, tokens));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "weights", args.weights, DType::kFloat64, 1, offsets));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "loss", args.loss, type, 1, tokens));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "losses", args.losses, type, offsets, tokens));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "target_weight", args.target_weight, type, 1, tokens));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "excess_weight", args.excess_weight, type, 1, tokens));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "energy", args.energy, DType::kFloat64, args.shards, tokens));
  return CheckDevice(kOp, args.gathered, device);
}

absl::Status CheckArguments(const FutureTargetGradientArgs& args, Device device) {
  constexpr char kOp[] = "FutureTargetGradient";
  const int64_t tokens = args.target_logits.rows, offsets = args.target_logits.columns;
  const DType type = args.target_logits.dtype;
  ISTHMUS_RETURN_IF_ERROR(CheckWide(kOp, "target_logits", args.target_logits));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "target_logits", args.target_logits, type, tokens, offsets));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "targets", args.targets, DType::kInt32, 1 + offsets, tokens));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "weights", args.weights, DType::kFloat64, 1, offsets));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "log_sum_exp", args.log_sum_exp, type, 1, tokens));
  const bool rounded = type == DType::kFloat32 && args.grad_logits.dtype == DType::kBFloat16;
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "grad_logits", args.grad_logits, rounded ? DType::kBFloat16 : type, tokens,
                                      args.grad_logits.columns));
  return CheckDevice(kOp, args.target_logits, device);
}

}  // namespace

// They touch some numbers per token, and not the logits.
OperatorCost FutureTargetLogitsArgs::Cost() const { return MemoryPass("later targets", {targets, target_logits}); }

absl::Status FutureTargetLogits(const FutureTargetLogitsArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  return Dispatch<cpu::FutureTargetLogits, cuda::FutureTargetLogits>(args, stream);
}

OperatorCost FutureTargetLossesArgs::Cost() const {
  return MemoryPass("losses of later targets", {gathered, targets, loss, losses, target_weight, excess_weight, energy});
}

absl::Status FutureTargetLosses(const FutureTargetLossesArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  return Dispatch<cpu::FutureTargetLosses, cuda::FutureTargetLosses>(args, stream);
}

OperatorCost FutureTargetGradientArgs::Cost() const {
  return MemoryPass("gradient at later targets", {targets, target_logits, log_sum_exp});
}

absl::Status FutureTargetGradient(const FutureTargetGradientArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  return Dispatch<cpu::FutureTargetGradient, cuda::FutureTargetGradient>(args, stream);
}

}  // namespace isthmus
