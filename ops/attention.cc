#include "ops/attention.h"

#include <absl/strings/str_cat.h>

#include "ops/check.h"
#include "ops/cost.h"
#include "ops/cuda/attention_workspace.h"
#include "ops/operator.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// Checks the arguments of both passes.
template <typename Args>
absl::Status CheckAttention(const char* op, const Args& args, Device device) {
  const AttentionShape& s = args.shape;
  if (s.sequences < 0 || s.sequence_length < 1 || s.head_dim < 1 || s.heads < 1 || s.kv_heads < 1 ||
      s.heads % s.kv_heads != 0) {
    return absl::InvalidArgumentError(absl::StrCat(op, ": heads ", s.heads, ", kv_heads ", s.kv_heads, ", head_dim ",
                                                   s.head_dim, ", sequence_length ", s.sequence_length,
                                                   "; all at least 1, heads a multiple of kv_heads"));
  }
  const DType type = args.q.dtype;
  const int64_t rows = s.sequences * s.sequence_length, query = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim;
  ISTHMUS_RETURN_IF_ERROR(CheckFloating(op, "q", args.q));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(op, "q", args.q, type, rows, query));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(op, "k", args.k, type, rows, kv));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(op, "v", args.v, type, rows, kv));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(op, "out", args.out, type, rows, query));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(op, "log_sum_exp", args.log_sum_exp, AccumulationType(type), s.sequences,
                                      s.heads * s.sequence_length));
  if (args.workspace.bytes() < LeastAttentionWorkspaceBytes(s, type, device)) {
    return absl::InvalidArgumentError(absl::StrCat(op, ": workspace has ", args.workspace.bytes(), " bytes; needs ",
                                                   LeastAttentionWorkspaceBytes(s, type, device)));
  }
  return absl::OkStatus();
}

absl::Status CheckArguments(const AttentionForwardArgs& args, Device device) {
  ISTHMUS_RETURN_IF_ERROR(CheckAttention("AttentionForward", args, device));
  return CheckDevice("AttentionForward", args.q, device);
}

absl::Status CheckArguments(const AttentionBackwardArgs& args, Device device) {
  constexpr char kOp[] = "AttentionBackward";
  ISTHMUS_RETURN_IF_ERROR(CheckAttention(kOp, args, device));
  const DType type = args.q.dtype;
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "grad_out", args.grad_out, type, args.q.rows, args.q.columns));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "grad_q", args.grad_q, type, args.q.rows, args.q.columns));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "grad_k", args.grad_k, type, args.k.rows, args.k.columns));
  ISTHMUS_RETURN_IF_ERROR(CheckTensor(kOp, "grad_v", args.grad_v, type, args.v.rows, args.v.columns));
  return CheckDevice(kOp, args.q, device);
}

// The causal mask leaves half of T×T for each of the two products of the forward pass.
double CausalFlops(const AttentionShape& shape) {
  return 2 * static_cast<double>(shape.sequences * shape.sequence_length) *
         static_cast<double>(shape.sequence_length * shape.heads * shape.head_dim);
}

}  // namespace

OperatorCost AttentionForwardArgs::Cost() const {
  OperatorCost cost = MemoryPass("attention", {q, k, v, out, log_sum_exp});
  cost.kind = OperatorCost::Kind::kAttentionForward;
  cost.flops = CausalFlops(shape);
  return cost;
}

absl::Status AttentionForward(const AttentionForwardArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  return Dispatch<cpu::AttentionForward, cuda::AttentionForward>(args, stream);
}

OperatorCost AttentionBackwardArgs::Cost() const {
  OperatorCost cost = MemoryPass("attention backward", {grad_out, q, k, v, out, log_sum_exp, grad_q, grad_k, grad_v},
                                 /*kernels=*/3);
  cost.kind = OperatorCost::Kind::kAttentionBackward;
  // The backward pass has five products of the same size instead of two (arXiv:2205.14135).
  cost.flops = 2.5 * CausalFlops(shape);
  return cost;
}

absl::Status AttentionBackward(const AttentionBackwardArgs& args, Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckArguments(args, stream.device()));
  return Dispatch<cpu::AttentionBackward, cuda::AttentionBackward>(args, stream);
}

int64_t AttentionWorkspaceBytes(const AttentionShape& shape, DType dtype, Device device) {
  return device == Device::kCuda ? cuda::AttentionWorkspaceBytes(shape, dtype)
                                 : cpu::AttentionWorkspaceBytes(shape, dtype);
}

int64_t LeastAttentionWorkspaceBytes(const AttentionShape& shape, DType dtype, Device device) {
  return device == Device::kCuda ? cuda::FlashAttentionWorkspaceBytes(shape)
                                 : cpu::AttentionWorkspaceBytes(shape, dtype);
}

}  // namespace isthmus
