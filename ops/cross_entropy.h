// Softmax cross-entropy of a chunk of tokens whose logits are sharded by vocabulary rows (DESIGN 3.5 and 4.2). It has
// three parts: every rank computes its own statistics, and the caller gathers them from all tensor ranks. Every rank
// then combines them and turns its logits into their gradient. A loss may have a soft cap and a z-loss
// (ops/loss_form.h). The logits that enter are those before the cap, always. z' are those of the softmax, and s and β
// are factors of their gradient; without both options z' = z and s = β = 1.
//
// Statistics of one token on one shard (C tokens in the chunk, P shards, S the shard's vocabulary rows, y the target):
//   0  maximum      m  = max_{v in S} z'_v
//   1  sum_exp      Σ_{v in S, v != y} exp(z'_v - m)
//   2  sum_exp_sq   Σ_{v in S, v != y} s_v² exp(2 (z'_v - m))
//   3  target       z'_y where y lies in S, else -infinity
// The target is kept out of the sums because 1 - p_y and Σ p² - 2 p_y + 1 cancel when p_y is near 1. These sums yield
// both without cancellation.
//
//   logits      [C, V_i]   fp32 | fp64
//   targets     [1, C]     int32, in [0, V)
//   statistics  [C, 4]     dtype of logits
//   gathered    [P·C, 4]   the statistics of shard 0, then shard 1, …
#ifndef ISTHMUS_OPS_CROSS_ENTROPY_H_
#define ISTHMUS_OPS_CROSS_ENTROPY_H_

#include <absl/status/status.h>

#include <cstdint>

#include "ops/loss_form.h"
#include "runtime/operator_cost.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

inline constexpr int64_t kCrossEntropyStatistics = 4;

struct CrossEntropyStatisticsArgs {
  ConstTensor logits;
  ConstTensor targets;
  int64_t first_row = 0;  // of the shard in the vocabulary
  LossForm form;
  Tensor statistics;

  OperatorCost Cost() const;
};

// Makes one pass over the logits. The result is deterministic for any number of threads. NaN and +infinity among the
// logits give non-finite statistics; -infinity is a probability of zero.
absl::Status CrossEntropyStatistics(const CrossEntropyStatisticsArgs& args, Stream& stream);

// Computes from the gathered statistics, with Z = Σ over shards and the target of exp(z'):
//   log_sum_exp[n] = log Z
//   loss[n]        = log Z - z'_y                           (nats; without the z-loss, λ log_sum_exp[n]²)
//   energy[i, n]   = Σ_{v in S_i} s_v² (β p_v - [v = y])², shard i's part of the squared norm of the token's gradient:
//                    times the square of the gradient's scale (1/N) it is the part of ‖G‖²
//   gathered [P·C, 4], loss and log_sum_exp [1, C], energy [P, C]: dtype of the logits (energy: fp64)
struct CrossEntropyCombineArgs {
  ConstTensor gathered;
  int64_t shards = 1;  // P
  LossForm form;
  Tensor loss;
  Tensor log_sum_exp;
  Tensor energy;  // optional

  OperatorCost Cost() const;
};

absl::Status CrossEntropyCombine(const CrossEntropyCombineArgs& args, Stream& stream);

// grad_logits[n, v] = scale * s_v (β exp(z'_v - log_sum_exp[n]) - [v + first_row = targets[n]]), by logits[n, v]
//   grad_logits  [C, V_i]  dtype of logits (may then alias logits), or bf16 from fp32 logits
//   loss         [1, C]    of CrossEntropyCombine: p_y - 1 of the target is expm1(-loss), free of cancellation
//   target_weight, excess_weight  [1, C]  dtype of logits; both or none: τ and ε of each token (ops/loss_form.h)
struct CrossEntropyGradientArgs {
  ConstTensor logits;
  ConstTensor targets;
  int64_t first_row = 0;
  ConstTensor loss;
  ConstTensor log_sum_exp;
  LossForm form;
  ConstTensor target_weight, excess_weight;
  double scale = 1;
  Tensor grad_logits;

  OperatorCost Cost() const;
};

absl::Status CrossEntropyGradient(const CrossEntropyGradientArgs& args, Stream& stream);

// Puts the soft cap on logits [n, V_i], fp32 | fp64, in their own memory: for who reads probabilities. The operators
// above put it on by themselves.
struct CapLogitsArgs {
  Tensor logits;
  double soft_cap = 1;  // c, above 0

  OperatorCost Cost() const;
};

absl::Status CapLogits(const CapLogitsArgs& args, Stream& stream);

// The implementations take checked arguments.
namespace cpu {
absl::Status CrossEntropyStatistics(const CrossEntropyStatisticsArgs& args);
absl::Status CrossEntropyCombine(const CrossEntropyCombineArgs& args);
absl::Status CrossEntropyGradient(const CrossEntropyGradientArgs& args);
absl::Status CapLogits(const CapLogitsArgs& args);
}  // namespace cpu
namespace cuda {
absl::Status CrossEntropyStatistics(const CrossEntropyStatisticsArgs& args, const Context& context);
absl::Status CrossEntropyCombine(const CrossEntropyCombineArgs& args, const Context& context);
absl::Status CrossEntropyGradient(const CrossEntropyGradientArgs& args, const Context& context);
absl::Status CapLogits(const CapLogitsArgs& args, const Context& context);
}  // namespace cuda

}  // namespace isthmus

#endif  // ISTHMUS_OPS_CROSS_ENTROPY_H_
