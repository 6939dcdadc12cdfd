#include "ops/mixture_loss.h"

#include <absl/strings/str_cat.h>

#include "ops/check.h"
#include "ops/cost.h"
#include "ops/operator.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

absl::Status CheckArguments(const MixtureLossArgs& args, Device device) {
  constexpr char kOp[] = "MixtureLoss";
  const DType type = args.prior_logits.dtype;
  const int64_t tokens = args.prior_logits.rows, count = args.prior_logits.columns, shards = args.energy.rows;
  ISTHMUS_RETURN_IF_ERROR(CheckFloating(kOp, "prior_logits", args.prior_logits));
  if (type == DType::kBFloat16 || count < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(kOp, ": prior_logits are ", args.prior_logits.Describe(), "; need a column, and fp32 or fp64"));
  }
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "component_loss", args.component_loss, type, 1, count * tokens));
  ISTHMUS_RETURN_IF_ERROR(
      CheckTensor(kOp, "component_energy", args.component_energy, DType::kFloat64, shards, count * tokens));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "loss", args.loss, type, 1, tokens));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "posterior", args.posterior, type, 1, count * tokens));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "energy", args.energy, DType::kFloat64, shards, tokens));
  if (args.grad_prior.defined()) {
    const bool rounded = type == DType::kFloat32 && args.grad_prior.dtype == DType::kBFloat16;
    ISTHMUS_RETURN_IF_ERROR(
        CheckTensor(kOp, "grad_prior", args.grad_prior, rounded ? DType::kBFloat16 : type, tokens, count));
  }
  return CheckDevice(kOp, args.prior_logits, device);
}

}  // namespace

OperatorCost MixtureLossArgs::Cost() const {
  return MemoryPass("mixture loss",
                    {prior_logits, component_loss, component_energy, loss, posterior, energy, grad_prior});
}

absl::Status MixtureLoss(const MixtureLossArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  return Dispatch<cpu::MixtureLoss, cuda::MixtureLoss>(args, stream);
}

}  // namespace isthmus
