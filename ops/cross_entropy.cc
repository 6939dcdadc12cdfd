#include "ops/cross_entropy.h"

#include <absl/strings/str_cat.h>

#include <cmath>

#include "ops/check.h"
#include "ops/cost.h"
#include "ops/operator.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

absl::Status CheckLogits(const char* op, const ConstTensor& logits) {
  if (logits.dtype == DType::kFloat32 || logits.dtype == DType::kFloat64) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(op, ": logits are ", logits.Describe(), "; need fp32 or fp64"));
}

absl::Status CheckForm(const char* op, const LossForm& form) {
  for (const double value : {form.soft_cap, form.z_loss}) {
    if (std::isfinite(value) && value >= 0) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(op, ": soft cap ", form.soft_cap, ", z-loss ", form.z_loss, "; need finite numbers from 0 on"));
  }
  return absl::OkStatus();
}

absl::Status CheckArguments(const CrossEntropyStatisticsArgs& args, Device device) {
  constexpr char kOp[] = "CrossEntropyStatistics";
  ISTHMUS_RETURN_IF_ERROR(CheckForm(kOp, args.form));
  ISTHMUS_RETURN_IF_ERROR(CheckLogits(kOp, args.logits));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "targets", args.targets, DType::kInt32, 1, args.logits.rows));
  ISTHMUS_RETURN_IF_ERROR(
      CheckTensor(kOp, "statistics", args.statistics, args.logits.dtype, args.logits.rows, kCrossEntropyStatistics));
  return CheckDevice(kOp, args.logits, device);
}

absl::Status CheckArguments(const CrossEntropyCombineArgs& args, Device device) {
  constexpr char kOp[] = "CrossEntropyCombine";
  ISTHMUS_RETURN_IF_ERROR(CheckForm(kOp, args.form));
  const int64_t tokens = args.loss.columns;
  const DType type = args.gathered.dtype;
  ISTHMUS_RETURN_IF_ERROR(CheckLogits(kOp, args.gathered));
  ISTHMUS_RETURN_IF_ERROR(
      CheckTensor(kOp, "gathered", args.gathered, type, args.shards * tokens, kCrossEntropyStatistics));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "loss", args.loss, type, 1, tokens));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "log_sum_exp", args.log_sum_exp, type, 1, tokens));
  if (args.energy.defined()) {
    ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "energy", args.energy, DType::kFloat64, args.shards, tokens));
  }
  return CheckDevice(kOp, args.gathered, device);
}

absl::Status CheckArguments(const CrossEntropyGradientArgs& args, Device device) {
  constexpr char kOp[] = "CrossEntropyGradient";
  ISTHMUS_RETURN_IF_ERROR(CheckForm(kOp, args.form));
  const int64_t tokens = args.logits.rows;
  const DType type = args.logits.dtype;
  ISTHMUS_RETURN_IF_ERROR(CheckLogits(kOp, args.logits));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "targets", args.targets, DType::kInt32, 1, tokens));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "loss", args.loss, type, 1, tokens));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "log_sum_exp", args.log_sum_exp, type, 1, tokens));
  if (args.target_weight.defined() || args.excess_weight.defined()) {
    ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "target_weight", args.target_weight, type, 1, tokens));
    ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "excess_weight", args.excess_weight, type, 1, tokens));
  }
  const bool rounded = type == DType::kFloat32 && args.grad_logits.dtype == DType::kBFloat16;
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "grad_logits", args.grad_logits, rounded ? DType::kBFloat16 : type, tokens,
                                      args.logits.columns));
  return CheckDevice(kOp, args.logits, device);
}

absl::Status CheckArguments(const CapLogitsArgs& args, Device device) {
  constexpr char kOp[] = "CapLogits";
  ISTHMUS_RETURN_IF_ERROR(CheckLogits(kOp, args.logits));
  if (!(args.soft_cap > 0 && std::isfinite(args.soft_cap))) {
    return absl::InvalidArgumentError(
        absl::StrCat(kOp, ": soft cap ", args.soft_cap, "; needs a finite number above 0"));
  }
  return CheckDevice(kOp, args.logits, device);
}

}  // namespace

OperatorCost CrossEntropyStatisticsArgs::Cost() const { return MemoryPass("loss statistics", {logits, statistics}); }

absl::Status CrossEntropyStatistics(const CrossEntropyStatisticsArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  return Dispatch<cpu::CrossEntropyStatistics, cuda::CrossEntropyStatistics>(args, stream);
}

OperatorCost CrossEntropyCombineArgs::Cost() const { return MemoryPass("loss", {gathered, loss, log_sum_exp, energy}); }

absl::Status CrossEntropyCombine(const CrossEntropyCombineArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  return Dispatch<cpu::CrossEntropyCombine, cuda::CrossEntropyCombine>(args, stream);
}

OperatorCost CrossEntropyGradientArgs::Cost() const { return MemoryPass("logit gradient", {logits, grad_logits}); }

absl::Status CrossEntropyGradient(const CrossEntropyGradientArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  return Dispatch<cpu::CrossEntropyGradient, cuda::CrossEntropyGradient>(args, stream);
}

OperatorCost CapLogitsArgs::Cost() const { return MemoryPass("soft cap", {logits, logits}); }

absl::Status CapLogits(const CapLogitsArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  return Dispatch<cpu::CapLogits, cuda::CapLogits>(args, stream);
}

}  // namespace isthmus
