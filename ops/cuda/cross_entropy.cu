#include <cmath>

#include "ops/cross_entropy.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/numeric.cuh"
#include "ops/cuda/reduce.cuh"

namespace isthmus::cuda {
namespace {

constexpr int kThreads = 512;

// e^x. The hardware's power of two is twice as fast as expf, and its argument's rounding costs |x|·1e-7 of the value.
__device__ __forceinline__ float Exp(float x) { return exp2f(x * 1.44269504F); }

// This is the soft cap of ops/loss_form.h.
struct SoftCap {
  float cap = 1;

  struct Capped {
    float logit, slope;  // z', s
  };
  __device__ __forceinline__ Capped operator()(float logit) const {
    const float tanh = tanhf(logit / cap);
    return {fabsf(logit) < INFINITY ? cap * tanh : logit, (1.0F - tanh) * (1.0F + tanh)};
  }
};

// Σ e^(z - maximum) and Σ e^2(z - maximum) of the values met so far.
struct OnlineSums {
  float maximum = -INFINITY, sum = 0, sum_sq = 0;

  // The number that values are taken relative to. It is finite even before the first finite value.
  __device__ __forceinline__ float shift() const { return maximum == -INFINITY ? 0.0F : maximum; }
  __device__ __forceinline__ void Raise(float other) {
    if (!(other > maximum)) return;
    const float factor = Exp(maximum - other);
    sum *= factor;
    sum_sq *= factor * factor;
    maximum = other;
  }
};

// One block handles one token, in one pass over its logits.
template <int kWidth, bool kCapped>
__global__ void __launch_bounds__(kThreads)
    StatisticsKernel(Rows<const float> logits, const int32_t* targets, int64_t first_row, SoftCap cap, int columns,
                     Rows<float> statistics) {
  const int64_t row = blockIdx.x;
  const float* z = logits[row];
  const int64_t target = targets[row] - first_row;
  OnlineSums sums;
  for (int c = static_cast<int>(threadIdx.x) * kWidth; c < columns; c += kThreads * kWidth) {
    float value[kWidth], slope[kWidth];
    LoadPack<kWidth>(z + c, value);
    if constexpr (kCapped) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        const SoftCap::Capped found = cap(value[i]);
        value[i] = found.logit;
        slope[i] = found.slope;
      }
    }
    float maximum = value[0];
#pragma unroll
    for (int i = 1; i < kWidth; ++i) maximum = fmaxf(maximum, value[i]);
    sums.Raise(maximum);
    const float shift = sums.shift();
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float e = c + i == target ? 0.0F : Exp(value[i] - shift);
      sums.sum += e;
      if constexpr (kCapped) {
        sums.sum_sq += slope[i] * e * (slope[i] * e);
      } else {
        sums.sum_sq += e * e;
      }
    }
  }
  const float maximum = BlockReduce(sums.maximum, MaximumOf(), -INFINITY);
  // A thread without columns has sums of zero, and its own maximum of -infinity makes the factor zero, not NaN.
  const float factor = sums.maximum == -INFINITY && maximum == -INFINITY ? 1.0F : Exp(sums.maximum - maximum);
  const float sum = BlockSum(sums.sum * factor), sum_sq = BlockSum(sums.sum_sq * factor * factor);
  if (threadIdx.x != 0) return;
  float* out = statistics[row];
  out[0] = maximum;
  out[1] = sum;
  out[2] = sum_sq;
  out[3] = target >= 0 && target < columns ? (kCapped ? cap(z[target]).logit : z[target]) : -INFINITY;
}

// One thread handles one token. The formulas are those of ops/cpu/cross_entropy.cc, in fp64.
__global__ void CombineKernel(Rows<const float> gathered, int shards, int tokens, LossForm form, float* loss,
                              float* log_sum_exp, Rows<double> energy) {
  const int n = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (n >= tokens) return;
  double maximum = -INFINITY, target = -INFINITY;
  for (int shard = 0; shard < shards; ++shard) {
    const float* s = gathered[int64_t{shard} * tokens + n];
    maximum = fmax(maximum, static_cast<double>(s[0]));
    if (s[3] != -INFINITY) target = s[3];
  }
  double others = 0;
  for (int shard = 0; shard < shards; ++shard) {
    const float* s = gathered[int64_t{shard} * tokens + n];
    if (s[1] != 0) others += static_cast<double>(s[1]) * exp(static_cast<double>(s[0]) - maximum);
  }
  const double own = exp(target - maximum), total = own + others, ratio = others / own;
  const double value = ratio < INFINITY ? log1p(ratio) : log(total) - (target - maximum);
  const double log_of_total = maximum + log(total);
  loss[n] = static_cast<float>(value);
  log_sum_exp[n] = static_cast<float>(log_of_total);
  if (energy.data == nullptr) return;
  const double factor = form.ProbabilityFactor(log_of_total);
  for (int shard = 0; shard < shards; ++shard) {
    const float* s = gathered[int64_t{shard} * tokens + n];
    const double share = exp(static_cast<double>(s[0]) - maximum) / total;
    double sum = s[2] != 0 ? static_cast<double>(s[2]) * share * share : 0;
    if (factor != 1) sum *= factor * factor;
    if (s[3] != -INFINITY) {
      const double gradient = form.TargetGradient(-(others / total), log_of_total, s[3]);
      sum += gradient * gradient;
    }
    energy[shard][n] = sum;
  }
}

// One block handles one token. It reads a pack before it writes it, because grad_logits may be logits.
template <typename Out, int kWidth, bool kCapped>
__global__ void __launch_bounds__(kThreads)
    GradientKernel(Rows<const float> logits, const int32_t* targets, int64_t first_row, const float* loss,
                   const float* log_sum_exp, LossForm form, const float* target_weight, const float* excess_weight,
                   SoftCap cap, float scale, Rows<Out> grad_logits, int columns) {
  const int64_t row = blockIdx.x, target = targets[row] - first_row;
  const bool weighted = target_weight != nullptr;
  TokenWeights weights;
  if (weighted) weights = {target_weight[row], excess_weight[row]};
  const float shift = log_sum_exp[row], factor = scale * static_cast<float>(form.ProbabilityFactor(shift, weights));
  // The softmax has z'_y = log_sum_exp - loss, whatever memory the logit has by now.
  float at_target = expm1f(-loss[row]);
  if (!form.plain() || weighted) {
    at_target = static_cast<float>(form.TargetGradient(at_target, shift, shift - loss[row], weights));
  }
  at_target *= scale;
  for (int c = static_cast<int>(threadIdx.x) * kWidth; c < columns; c += kThreads * kWidth) {
    float value[kWidth];
    LoadPack<kWidth>(logits[row] + c, value);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      float weight = factor;
      if constexpr (kCapped) {
        const SoftCap::Capped found = cap(value[i]);
        value[i] = found.logit;
        weight *= found.slope;
      }
      value[i] = c + i == target ? at_target : weight * Exp(value[i] - shift);
    }
    StorePack<kWidth>(value, grad_logits[row] + c);
  }
}

// One block handles one row.
template <int kWidth>
__global__ void __launch_bounds__(kThreads) CapKernel(Rows<float> logits, SoftCap cap, int columns) {
  float* z = logits[blockIdx.x];
  for (int c = static_cast<int>(threadIdx.x) * kWidth; c < columns; c += kThreads * kWidth) {
    float value[kWidth];
    LoadPack<kWidth>(z + c, value);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) value[i] = cap(value[i]).logit;
    StorePack<kWidth>(value, z + c);
  }
}

SoftCap CapOf(const LossForm& form) { return form.capped() ? SoftCap{static_cast<float>(form.soft_cap)} : SoftCap(); }

template <int kWidth, bool kCapped>
absl::Status Statistics(const CrossEntropyStatisticsArgs& args, const Context& context) {
  return Launch("CrossEntropyStatistics", StatisticsKernel<kWidth, kCapped>,
                {dim3(static_cast<unsigned>(args.logits.rows)), dim3(kThreads)}, context,
                Rows<const float>(args.logits), args.targets.As<const int32_t>(), args.first_row, CapOf(args.form),
                static_cast<int>(args.logits.columns), Rows<float>(args.statistics));
}

template <typename Out, int kWidth, bool kCapped>
absl::Status Gradient(const CrossEntropyGradientArgs& args, const Context& context) {
  return Launch("CrossEntropyGradient", GradientKernel<Out, kWidth, kCapped>,
                {dim3(static_cast<unsigned>(args.logits.rows)), dim3(kThreads)}, context,
                Rows<const float>(args.logits), args.targets.As<const int32_t>(), args.first_row,
                args.loss.As<const float>(), args.log_sum_exp.As<const float>(), args.form,
                args.target_weight.As<const float>(), args.excess_weight.As<const float>(), CapOf(args.form),
                static_cast<float>(args.scale), Rows<Out>(args.grad_logits), static_cast<int>(args.logits.columns));
}

}  // namespace

absl::Status CrossEntropyStatistics(const CrossEntropyStatisticsArgs& args, const Context& context) {
  if (args.form.capped()) {
    return Packs(args.logits, 4) ? Statistics<4, true>(args, context) : Statistics<1, true>(args, context);
  }
  return Packs(args.logits, 4) ? Statistics<4, false>(args, context) : Statistics<1, false>(args, context);
}

absl::Status CrossEntropyCombine(const CrossEntropyCombineArgs& args, const Context& context) {
  constexpr int kTokensPerBlock = 64;
  const int64_t tokens = args.loss.columns;
  return Launch("CrossEntropyCombine", CombineKernel, {dim3(BlocksFor(tokens, kTokensPerBlock)), dim3(kTokensPerBlock)},
                context, Rows<const float>(args.gathered), static_cast<int>(args.shards), static_cast<int>(tokens),
                args.form, args.loss.As<float>(), args.log_sum_exp.As<float>(), Rows<double>(args.energy));
}

absl::Status CrossEntropyGradient(const CrossEntropyGradientArgs& args, const Context& context) {
  return VisitElements(args.grad_logits.dtype, [&](auto zero) {
    using Out = decltype(zero);
    constexpr int kWidth = kPackWidth<Out>;
    const bool packs = Packs(args.logits, kWidth) && Packs(args.grad_logits, kWidth);
    if (args.form.capped()) {
      return packs ? Gradient<Out, kWidth, true>(args, context) : Gradient<Out, 1, true>(args, context);
    }
    return packs ? Gradient<Out, kWidth, false>(args, context) : Gradient<Out, 1, false>(args, context);
  });
}

absl::Status CapLogits(const CapLogitsArgs& args, const Context& context) {
  const bool packs = Packs(args.logits, 4);
  return Launch("CapLogits", packs ? CapKernel<4> : CapKernel<1>,
                {dim3(static_cast<unsigned>(args.logits.rows)), dim3(kThreads)}, context, Rows<float>(args.logits),
                SoftCap{static_cast<float>(args.soft_cap)}, static_cast<int>(args.logits.columns));
}

}  // namespace isthmus::cuda
