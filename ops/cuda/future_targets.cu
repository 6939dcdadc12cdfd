#include <cmath>

#include "ops/cross_entropy.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/numeric.cuh"
#include "ops/future_targets.h"

namespace isthmus::cuda {
namespace {

constexpr int kTokensPerBlock = 64;

// This views the targets of all tokens of a chunk.
struct FutureTargetsOfChunk {
  const int32_t* targets;
  int64_t stride;
  const double* weights;
  int count;

  template <typename Args>
  explicit FutureTargetsOfChunk(const Args& args)
      : targets(args.targets.template As<const int32_t>()),
        stride(args.targets.row_stride),
        weights(args.weights.template As<const double>()),
        count(static_cast<int>(args.weights.columns)) {}
  __device__ __forceinline__ FutureTargetsOfToken Of(int64_t n) const { return {targets + n, stride, weights, count}; }
};

// One thread handles one logit.
__global__ void TargetLogitsKernel(Rows<const float> logits, Rows<const int32_t> targets, int64_t first_row,
                                   double soft_cap, int columns, int tokens, int offsets, Rows<float> target_logits) {
  const int n = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x), k = static_cast<int>(blockIdx.y);
  if (n >= tokens || k >= offsets) return;
  const int64_t column = targets[k][n] - first_row;
  float logit = -INFINITY;
  if (column >= 0 && column < columns) {
    logit = logits[n][column];
    const auto cap = static_cast<float>(soft_cap);
    if (cap != 0 && fabsf(logit) < INFINITY) logit = cap * tanhf(logit / cap);
  }
  target_logits[n][k] = logit;
}

// One thread handles one token. The formulas are those of ops/cpu/future_targets.cc, in fp64.
__global__ void LossesKernel(Rows<const float> gathered, int shards, int tokens, FutureTargetsOfChunk all,
                             LossForm form, const float* loss, Rows<float> losses, float* target_weight,
                             float* excess_weight, Rows<double> energies) {
  const int n = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (n >= tokens) return;
  const FutureTargetsOfToken targets = all.Of(n);
  const auto statistics = [&](int shard) { return gathered[int64_t{shard} * tokens + n]; };
  double maximum = -INFINITY, target = -INFINITY, others = 0;
  for (int shard = 0; shard < shards; ++shard) {
    const float* s = statistics(shard);
    maximum = fmax(maximum, static_cast<double>(s[0]));
    if (s[3] != -INFINITY) target = s[3];
  }
  for (int shard = 0; shard < shards; ++shard) {
    const float* s = statistics(shard);
    if (s[1] != 0) others += static_cast<double>(s[1]) * exp(static_cast<double>(s[0]) - maximum);
  }
  const double total = exp(target - maximum) + others, log_sum_exp = maximum + log(total);
  const TokenWeights at_first = targets.Of(targets.target(0));
  target_weight[n] = static_cast<float>(at_first.target);
  excess_weight[n] = static_cast<float>(at_first.excess);
  for (int k = 1; k <= targets.count; ++k) {
    double logit = -INFINITY;
    for (int shard = 0; shard < shards; ++shard) {
      const double found = statistics(shard)[kCrossEntropyStatistics + k - 1];
      if (found != -INFINITY) logit = found;
    }
    losses[k - 1][n] =
        targets.target(k) == targets.target(0) ? loss[n] : static_cast<float>(log(total) - (logit - maximum));
  }
  const double factor = form.ProbabilityFactor(log_sum_exp, at_first);
  for (int shard = 0; shard < shards; ++shard) {
    const float* s = statistics(shard);
    const double share = exp(static_cast<double>(s[0]) - maximum) / total;
    double energy = s[2] != 0 ? static_cast<double>(s[2]) * share * share * factor * factor : 0;
    if (s[3] != -INFINITY) {
      const double gradient = form.TargetGradient(-(others / total), log_sum_exp, s[3], at_first);
      energy += gradient * gradient;
    }
    for (int k = 1; k <= targets.count; ++k) {
      const double logit = s[kCrossEntropyStatistics + k - 1];
      if (logit == -INFINITY || !targets.IsNew(k)) continue;
      const double slope = form.Slope(logit), weight = targets.Of(targets.target(k)).target;
      energy += slope * slope * weight * (weight - 2 * factor * exp(logit - maximum) / total);
    }
    energies[shard][n] = energy < 0 ? 0 : energy;
  }
}

// One thread handles one token.
template <typename Out>
__global__ void FutureGradientKernel(FutureTargetsOfChunk all, int64_t first_row, Rows<const float> target_logits,
                                     const float* log_sum_exps, LossForm form, double scale, Rows<Out> grad_logits,
                                     int columns, int tokens) {
  const int n = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (n >= tokens) return;
  const FutureTargetsOfToken targets = all.Of(n);
  const double log_sum_exp = log_sum_exps[n];
  for (int k = 1; k <= targets.count; ++k) {
    const int64_t column = targets.target(k) - first_row;
    if (column < 0 || column >= columns || !targets.IsNew(k)) continue;
    const double logit = target_logits[n][k - 1];
    const double gradient =
        form.TargetGradient(expm1(logit - log_sum_exp), log_sum_exp, logit, targets.Of(targets.target(k)));
    grad_logits[n][column] = Narrow<Out>(static_cast<float>(scale * gradient));
  }
}

LaunchShape OverTokens(int64_t tokens, int64_t rows = 1) {
  return {dim3(BlocksFor(tokens, kTokensPerBlock), static_cast<unsigned>(rows)), dim3(kTokensPerBlock)};
}

}  // namespace

absl::Status FutureTargetLogits(const FutureTargetLogitsArgs& args, const Context& context) {
  const int64_t tokens = args.logits.rows, offsets = args.targets.rows;
  return Launch("FutureTargetLogits", TargetLogitsKernel, OverTokens(tokens, offsets), context,
                Rows<const float>(args.logits), Rows<const int32_t>(args.targets), args.first_row, args.form.soft_cap,
                static_cast<int>(args.logits.columns), static_cast<int>(tokens), static_cast<int>(offsets),
                Rows<float>(args.target_logits));
}

absl::Status FutureTargetLosses(const FutureTargetLossesArgs& args, const Context& context) {
  const int64_t tokens = args.losses.columns;
  return Launch("FutureTargetLosses", LossesKernel, OverTokens(tokens), context, Rows<const float>(args.gathered),
                static_cast<int>(args.shards), static_cast<int>(tokens), FutureTargetsOfChunk(args), args.form,
                args.loss.As<const float>(), Rows<float>(args.losses), args.target_weight.As<float>(),
                args.excess_weight.As<float>(), Rows<double>(args.energy));
}

absl::Status FutureTargetGradient(const FutureTargetGradientArgs& args, const Context& context) {
  return VisitElements(args.grad_logits.dtype, [&](auto zero) {
    using Out = decltype(zero);
    const int64_t tokens = args.target_logits.rows;
    return Launch("FutureTargetGradient", FutureGradientKernel<Out>, OverTokens(tokens), context,
                  FutureTargetsOfChunk(args), args.first_row, Rows<const float>(args.target_logits),
                  args.log_sum_exp.As<const float>(), args.form, args.scale, Rows<Out>(args.grad_logits),
                  static_cast<int>(args.grad_logits.columns), static_cast<int>(tokens));
  });
}

}  // namespace isthmus::cuda
