#include "ops/pointer_attention.h"

#include <absl/strings/str_cat.h>

#include "ops/check.h"
#include "ops/cost.h"
#include "ops/operator.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// Checks the arguments of both passes.
template <typename Args>
absl::Status CheckPointer(const char* op, const Args& args) {
  const int64_t tokens = args.q.rows;
  if (args.sequence_length < 1 || tokens % args.sequence_length != 0 || args.q.columns < 1) {
    return absl::InvalidArgumentError(absl::StrCat(op, ": q is ", args.q.Describe(), ", sequence_length ",
                                                   args.sequence_length,
                                                   "; needs rows of whole sequences, and at least 1 column"));
  }
  const DType type = args.q.dtype, sum_type = AccumulationType(type);
  ISTHMUS_RETURN_IF_ERROR(CheckFloating(op, "q", args.q));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(op, "k", args.k, type, tokens, args.q.columns));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(op, "sink", args.sink, type, 1, 1));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(op, "ids", args.ids, DType::kInt32, 1, tokens));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(op, "targets", args.targets, DType::kInt32, 1, tokens));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(op, "log_sum_exp", args.log_sum_exp, sum_type, 1, tokens));
  return CheckTensor(op, "log_match", args.log_match, sum_type, 1, tokens);
}

absl::Status CheckArguments(const PointerAttentionForwardArgs& args, Device device) {
  ISTHMUS_RETURN_IF_ERROR(CheckPointer("PointerAttentionForward", args));
  return CheckDevice("PointerAttentionForward", args.q, device);
}

absl::Status CheckArguments(const PointerAttentionBackwardArgs& args, Device device) {
  constexpr char kOp[] = "PointerAttentionBackward";
  ISTHMUS_RETURN_IF_ERROR(CheckPointer(kOp, args));
  const int64_t tokens = args.q.rows;
  const DType type = args.q.dtype, sum_type = AccumulationType(type);
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "grad_log_match", args.grad_log_match, sum_type, 1, tokens));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "grad_log_sink", args.grad_log_sink, sum_type, 1, tokens));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "grad_q", args.grad_q, type, tokens, args.q.columns));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "grad_k", args.grad_k, type, tokens, args.q.columns));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "grad_sink", args.grad_sink, sum_type, 1, 1));
  return CheckDevice(kOp, args.q, device);
}

// The causal mask leaves half of T×T for a product.
double CausalProductFlops(const ConstTensor& q, int64_t sequence_length) {
  return static_cast<double>(q.rows) * static_cast<double>(sequence_length * q.columns);
}

}  // namespace

OperatorCost PointerAttentionForwardArgs::Cost() const {
  OperatorCost cost = MemoryPass("pointer attention", {q, k, ids, targets, log_sum_exp, log_match});
  cost.kind = OperatorCost::Kind::kAttentionForward;
  cost.flops = CausalProductFlops(q, sequence_length);
  return cost;
}

absl::Status PointerAttentionForward(const PointerAttentionForwardArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  return Dispatch<cpu::PointerAttentionForward, cuda::PointerAttentionForward>(args, stream);
}

OperatorCost PointerAttentionBackwardArgs::Cost() const {
  OperatorCost cost = MemoryPass(
      "pointer attention backward",
      {q, k, ids, targets, log_sum_exp, log_match, grad_log_match, grad_log_sink, grad_q, grad_k, grad_sink, grad_sink},
      /*kernels=*/3);
  cost.kind = OperatorCost::Kind::kAttentionBackward;
  // The scores are made once for the queries and once for the keys.
  cost.flops = 4 * CausalProductFlops(q, sequence_length);
  return cost;
}

absl::Status PointerAttentionBackward(const PointerAttentionBackwardArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  return Dispatch<cpu::PointerAttentionBackward, cuda::PointerAttentionBackward>(args, stream);
}

}  // namespace isthmus
