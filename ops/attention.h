// Causal grouped-query attention with an online softmax over blocks of keys (Ainslie et al. 2023, arXiv:2305.13245;
// Dao et al. 2022, arXiv:2205.14135). No T×T matrix exists.
//
//   out[b, t, h] = Σ_{s <= t} softmax_s(scale · q[b, t, h] · k[b, s, h·K/H]) v[b, s, h·K/H]
//   log_sum_exp[b, h, t] = log Σ_{s <= t} exp(scale · q · k)
//
//   q, out, grad_out, grad_q   [B·T, H·head_dim]   fp32 | bf16 | fp64; any row stride
//   k, v, grad_k, grad_v       [B·T, K·head_dim]   dtype of q; any row stride
//   log_sum_exp                [B, H·T]            fp32 (fp64 with fp64 q); saved for the backward pass
//   workspace                  uint8 [1, LeastAttentionWorkspaceBytes(...) or more]
//
// H is a multiple of K. Row b·T + t holds token t of sequence b. grad_q, grad_k and grad_v are overwritten and alias
// nothing. bf16 is computed in fp32. Errors: InvalidArgument when shapes, dtypes or the workspace disagree. The result
// is deterministic: its bits do not depend on the number of threads.
#ifndef ISTHMUS_OPS_ATTENTION_H_
#define ISTHMUS_OPS_ATTENTION_H_

#include <absl/status/status.h>

#include <cstdint>

#include "runtime/operator_cost.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

struct AttentionShape {
  int64_t sequences = 0;        // B
  int64_t sequence_length = 0;  // T
  int64_t heads = 0;            // H
  int64_t kv_heads = 0;         // K
  int64_t head_dim = 0;
};

// Bytes of workspace with which both passes are fast. On the CPU they serve up to MaxThreads() threads; on GPUs they
// are the same in every build.
int64_t AttentionWorkspaceBytes(const AttentionShape& shape, DType dtype, Device device);

// Bytes of workspace that both passes require. A GPU's backward pass uses any further memory up to
// AttentionWorkspaceBytes as far as it goes.
int64_t LeastAttentionWorkspaceBytes(const AttentionShape& shape, DType dtype, Device device);

struct AttentionForwardArgs {
  AttentionShape shape;
  double scale = 1;
  ConstTensor q, k, v;
  Tensor out;
  Tensor log_sum_exp;
  Tensor workspace;

  OperatorCost Cost() const;
};

absl::Status AttentionForward(const AttentionForwardArgs& args, Stream& stream);

struct AttentionBackwardArgs {
  AttentionShape shape;
  double scale = 1;
  ConstTensor grad_out;
  ConstTensor q, k, v;
  ConstTensor out;          // of the forward pass
  ConstTensor log_sum_exp;  // of the forward pass
  Tensor grad_q, grad_k, grad_v;
  Tensor workspace;

  OperatorCost Cost() const;
};

absl::Status AttentionBackward(const AttentionBackwardArgs& args, Stream& stream);

// The implementations take checked arguments.
namespace cpu {
absl::Status AttentionForward(const AttentionForwardArgs& args);
absl::Status AttentionBackward(const AttentionBackwardArgs& args);
int64_t AttentionWorkspaceBytes(const AttentionShape& shape, DType dtype);
}  // namespace cpu
namespace cuda {
absl::Status AttentionForward(const AttentionForwardArgs& args, const Context& context);
absl::Status AttentionBackward(const AttentionBackwardArgs& args, const Context& context);
}  // namespace cuda

}  // namespace isthmus

#endif  // ISTHMUS_OPS_ATTENTION_H_
