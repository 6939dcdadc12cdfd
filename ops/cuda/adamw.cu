#include <cmath>

#include "ops/adamw.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/numeric.cuh"

namespace isthmus::cuda {
namespace {

constexpr int kThreads = 256;

struct Coefficients {
  float beta1, rest1, beta2, rest2, decay, rate, correction, epsilon, grad_scale;
};

// kMaximum says whether there is a maximum of the second moments.
template <int kWidth, bool kMaximum>
__global__ void __launch_bounds__(kThreads)
    AdamWKernel(float* weight, const float* grad, float* first, float* second, float* maximum, BFloat16* compute,
                int64_t count, Coefficients k) {
  const int64_t stride = int64_t{gridDim.x} * kThreads * kWidth;
  for (int64_t begin = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kWidth; begin < count; begin += stride) {
    float w[kWidth], g[kWidth], m[kWidth], v[kWidth];
    LoadPack<kWidth>(static_cast<const float*>(weight + begin), w);
    LoadPack<kWidth>(grad + begin, g);
    LoadPack<kWidth>(static_cast<const float*>(first + begin), m);
    LoadPack<kWidth>(static_cast<const float*>(second + begin), v);
    float largest[kWidth] = {};
    if constexpr (kMaximum) LoadPack<kWidth>(static_cast<const float*>(maximum + begin), largest);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      // This code decides which product of a sum is fused. The compiler's choice would differ between widths.
      const float scaled = g[i] * k.grad_scale;
      m[i] = fmaf(k.beta1, m[i], k.rest1 * scaled);
      v[i] = fmaf(k.beta2, v[i], k.rest2 * (scaled * scaled));
      // NaN differs from itself. fmaxf would drop it.
      const bool keeps = kMaximum && (largest[i] > v[i] || largest[i] != largest[i]);
      if (!keeps) largest[i] = v[i];
      const float change = fmaf(k.decay, w[i], m[i] / fmaf(sqrtf(largest[i]), k.correction, k.epsilon));
      w[i] += __fmul_rn(-k.rate, change);
    }
    StorePack<kWidth>(m, first + begin);
    StorePack<kWidth>(v, second + begin);
    if constexpr (kMaximum) StorePack<kWidth>(largest, maximum + begin);
    StorePack<kWidth>(w, weight + begin);
    if (compute != nullptr) StorePack<kWidth>(w, compute + begin);
  }
}

template <int kWidth, bool kMaximum>
absl::Status Update(const AdamWArgs& args, const Coefficients& coefficients, const Context& context) {
  const int64_t count = args.weight.columns;
  return Launch("AdamW", AdamWKernel<kWidth, kMaximum>,
                {dim3(StridingBlocks(context, count, kThreads * kWidth)), dim3(kThreads)}, context,
                args.weight.As<float>(), args.grad.As<const float>(), args.first_moment.As<float>(),
                args.second_moment.As<float>(), args.max_second_moment.As<float>(), args.compute_weight.As<BFloat16>(),
                count, coefficients);
}

template <int kWidth>
absl::Status UpdatePacks(const AdamWArgs& args, const Coefficients& coefficients, const Context& context) {
  return args.max_second_moment.defined() ? Update<kWidth, true>(args, coefficients, context)
                                          : Update<kWidth, false>(args, coefficients, context);
}

}  // namespace

absl::Status AdamW(const AdamWArgs& args, const Context& context) {
  const auto step = static_cast<double>(args.step);
  const double correction1 = 1 - std::pow(args.beta1, step);
  const auto narrow = [](double value) { return static_cast<float>(value); };
  const Coefficients coefficients = {.beta1 = narrow(args.beta1),
                                     .rest1 = narrow(1 - args.beta1),
                                     .beta2 = narrow(args.beta2),
                                     .rest2 = narrow(1 - args.beta2),
                                     .decay = narrow(args.weight_decay * correction1),  // multiplied by `rate`
                                     .rate = narrow(args.learning_rate / correction1),
                                     .correction = narrow(1 / std::sqrt(1 - std::pow(args.beta2, step))),
                                     .epsilon = narrow(args.epsilon),
                                     .grad_scale = narrow(args.grad_scale)};
  constexpr int kWidth = kPackWidth<float>;
  const bool packs = Packs(args.weight, kWidth) && Packs(args.grad, kWidth) && Packs(args.first_moment, kWidth) &&
                     Packs(args.second_moment, kWidth) && Packs(args.max_second_moment, kWidth) &&
                     Packs(args.compute_weight, kWidth);
  return packs ? UpdatePacks<kWidth>(args, coefficients, context) : UpdatePacks<1>(args, coefficients, context);
}

}  // namespace isthmus::cuda
