// These operators make the softmax cross-entropy of a chunk of tokens whose logits must also predict later tokens. It is
// multi-token prediction by the same logits; Gloeckle et al. 2024, arXiv:2404.19737, have heads of their own for it. The
// operators stand beside those of ops/cross_entropy.h, which know the first target alone.
//
// A token has the targets y_0, which is its ordinary one, and y_k with the weights w_k, k in 1 to K. Logits z', s and λ
// are those of ops/loss_form.h:
//
//   trained loss = CE(z', y_0) + Σ_k w_k CE(z', y_k) + λ log_sum_exp(z')²,   CE(z', y) = log_sum_exp(z') - z'_y
//   G_v = ∂/∂z_v = s_v ((1 + Σ_k w_k + 2 λ log_sum_exp) p_v - [v = y_0] - Σ_k w_k [v = y_k])
//
// With ω_v = [v = y_0] + Σ_k w_k [v = y_k] this is s_v (ω_v (p_v - 1) + (1 + Σ_k w_k - ω_v + 2 λ log_sum_exp) p_v). So
// the weights of TokenWeights are τ = ω and ε = 1 + Σ_k w_k - ω, and τ + ε is the same for all classes of a token.
// CrossEntropyGradient with those of y_0 makes all elements but those at other targets, and FutureTargetGradient makes
// these. Targets may coincide.
//
// C tokens are in the chunk, P shards, and S_i are the vocabulary rows of shard i:
//   targets         int32, row k has y_k of each token, in [0, V)
//   weights         [1, K]   fp64 in memory of the stream's device: w_k
//   logits          [C, V_i] fp32 | fp64, before a soft cap
//   target_logits   [C, K]   dtype of logits: z'_y of the later targets that this shard owns, else -infinity
//
// Errors: InvalidArgument when shapes or dtypes disagree. All are deterministic. The arithmetic is in fp64, and its cost
// is that of K numbers per token.
#ifndef ISTHMUS_OPS_FUTURE_TARGETS_H_
#define ISTHMUS_OPS_FUTURE_TARGETS_H_

#include <absl/status/status.h>

#include <cstdint>

#include "ops/loss_form.h"
#include "runtime/operator_cost.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

// Views the targets of one token and their weights. Both compilers accept it.
struct FutureTargetsOfToken {
  const int32_t* targets;  // y_0; y_k is k strides behind
  int64_t stride;
  const double* weights;
  int count;  // K

  constexpr int32_t target(int offset) const { return targets[offset * stride]; }
  // Returns τ and ε of a class.
  constexpr TokenWeights Of(int32_t token) const {
    TokenWeights sums = {target(0) == token ? 1.0 : 0.0, target(0) == token ? 0.0 : 1.0};
    for (int k = 1; k <= count; ++k) (target(k) == token ? sums.target : sums.excess) += weights[k - 1];
    return sums;
  }
  // Returns whether the target of an offset is none of those before it.
  constexpr bool IsNew(int offset) const {
    for (int k = 0; k < offset; ++k) {
      if (target(k) == target(offset)) return false;
    }
    return true;
  }
};

// Finds the logits of the later targets on this shard. Must come before the gradient overwrites them.
struct FutureTargetLogitsArgs {
  ConstTensor logits;
  ConstTensor targets;    // [K, C]: from y_1 on
  int64_t first_row = 0;  // of the shard in the vocabulary
  LossForm form;
  Tensor target_logits;

  OperatorCost Cost() const;
};

absl::Status FutureTargetLogits(const FutureTargetLogitsArgs& args, Stream& stream);

// Computes from what all shards have found:
//   losses[k, n]   = log_sum_exp - z'_y of y_k, nats
//   target_weight  = τ of y_0, excess_weight = ε of y_0, for CrossEntropyGradient
//   energy[i, n]   = Σ_{v in S_i} G_v², as that of CrossEntropyCombine
//
//   gathered  [P·C, 4 + K]  the statistics of CrossEntropyStatistics with target_logits beside them, of shard 0, then
//                           shard 1, …: fp32 | fp64
//   loss      [1, C]        of CrossEntropyCombine: it is that of a y_k that is y_0, free of cancellation
//   losses [K, C], target_weight and excess_weight [1, C]: dtype of gathered; energy [P, C]: fp64
struct FutureTargetLossesArgs {
  ConstTensor gathered;
  int64_t shards = 1;   // P
  ConstTensor targets;  // [1 + K, C]
  ConstTensor weights;
  LossForm form;
  ConstTensor loss;
  Tensor losses;
  Tensor target_weight, excess_weight;
  Tensor energy;

  OperatorCost Cost() const;
};

absl::Status FutureTargetLosses(const FutureTargetLossesArgs& args, Stream& stream);

// Sets the elements of grad_logits at the later targets that are not y_0 to scale · G_v. There p_v is
// exp(z'_v - log_sum_exp), and p_v - 1 has no cancellation of its own.
//   log_sum_exp  [1, C]    dtype of target_logits
//   grad_logits  [C, V_i]  dtype of target_logits, or bf16 with fp32
struct FutureTargetGradientArgs {
  ConstTensor targets;  // [1 + K, C]
  int64_t first_row = 0;
  ConstTensor weights;
  ConstTensor target_logits;
  ConstTensor log_sum_exp;
  LossForm form;
  double scale = 1;
  Tensor grad_logits;

  OperatorCost Cost() const;
};

absl::Status FutureTargetGradient(const FutureTargetGradientArgs& args, Stream& stream);

// The implementations take checked arguments.
namespace cpu {
absl::Status FutureTargetLogits(const FutureTargetLogitsArgs& args);
absl::Status FutureTargetLosses(const FutureTargetLossesArgs& args);
absl::Status FutureTargetGradient(const FutureTargetGradientArgs& args);
}  // namespace cpu
namespace cuda {
absl::Status FutureTargetLogits(const FutureTargetLogitsArgs& args, const Context& context);
absl::Status FutureTargetLosses(const FutureTargetLossesArgs& args, const Context& context);
absl::Status FutureTargetGradient(const FutureTargetGradientArgs& args, const Context& context);
}  // namespace cuda

}  // namespace isthmus

#endif  // ISTHMUS_OPS_FUTURE_TARGETS_H_
