// Causal attention of one narrow head with a learned sink, which points at earlier tokens instead of mixing values
// (Vinyals et al. 2015, arXiv:1506.03134; with a sentinel: Merity et al. 2016, arXiv:1609.07843, section 2.3). Position
// j stands for the token ids[j]. A query n has these scores of the sink and of the positions j <= n of its sequence:
//
//   s_n0 = sink,   s_nj = scale · q[n] · k[j],   a_n = softmax(s_n0, s_nj of all j)
//   log_sum_exp[n] = log (exp(s_n0) + Σ_j exp(s_nj)), so that log a_n0 = sink - log_sum_exp[n]
//   log_match[n]   = log Σ_j a_nj [ids[j] = targets[n]]: -infinity where no position has the target, or where the share
//                    of those that have it underflows beside that of the largest score
//
//   q, k                      [B·T, d]   fp32 | bf16 | fp64; any row stride
//   sink                      [1, 1]     dtype of q
//   ids, targets              [1, B·T]   int32
//   log_sum_exp, log_match    [1, B·T]   fp32 (fp64 with fp64 q)
//
// The backward pass takes γ_n = ∂L/∂(log_match[n]) and μ_n = ∂L/∂(log a_n0), which are bounded where those by the
// masses themselves are not. With the shares b_nj = a_nj [ids[j] = targets[n]] / exp(log_match[n]), zero without a match,
//
//   ∂L/∂s_nj = γ_n b_nj - (γ_n + μ_n) a_nj,   ∂L/∂s_n0 = μ_n - (γ_n + μ_n) a_n0
//
//   grad_log_match, grad_log_sink   [1, B·T]   dtype of log_sum_exp: γ and μ. Without a match γ counts as zero
//   grad_q, grad_k                  [B·T, d]   dtype of q; overwritten, alias nothing; any row stride
//   grad_sink                       [1, 1]     dtype of log_sum_exp; added to
//
// Row b·T + t holds token t of sequence b. No T×T matrix exists. bf16 is computed in fp32. The result is deterministic:
// its bits do not depend on the number of threads, and there are no atomics. Errors: InvalidArgument when shapes or
// dtypes disagree; Unimplemented on a GPU for d above 256.
#ifndef ISTHMUS_OPS_POINTER_ATTENTION_H_
#define ISTHMUS_OPS_POINTER_ATTENTION_H_

#include <absl/status/status.h>

#include <cstdint>

#include "runtime/operator_cost.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

struct PointerAttentionForwardArgs {
  int64_t sequence_length = 0;  // T
  double scale = 1;
  ConstTensor q, k;
  ConstTensor sink;
  ConstTensor ids, targets;
  Tensor log_sum_exp, log_match;

  OperatorCost Cost() const;
};

absl::Status PointerAttentionForward(const PointerAttentionForwardArgs& args, Stream& stream);

struct PointerAttentionBackwardArgs {
  int64_t sequence_length = 0;
  double scale = 1;
  ConstTensor q, k;
  ConstTensor sink;
  ConstTensor ids, targets;
  ConstTensor log_sum_exp, log_match;  // of the forward pass
  ConstTensor grad_log_match, grad_log_sink;
  Tensor grad_q, grad_k;
  Tensor grad_sink;

  OperatorCost Cost() const;
};

absl::Status PointerAttentionBackward(const PointerAttentionBackwardArgs& args, Stream& stream);

// The implementations take checked arguments.
namespace cpu {
absl::Status PointerAttentionForward(const PointerAttentionForwardArgs& args);
absl::Status PointerAttentionBackward(const PointerAttentionBackwardArgs& args);
}  // namespace cpu
namespace cuda {
absl::Status PointerAttentionForward(const PointerAttentionForwardArgs& args, const Context& context);
absl::Status PointerAttentionBackward(const PointerAttentionBackwardArgs& args, const Context& context);
}  // namespace cuda

}  // namespace isthmus

#endif  // ISTHMUS_OPS_POINTER_ATTENTION_H_
