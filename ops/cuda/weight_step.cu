#include "ops/cuda/launch.cuh"
#include "ops/cuda/numeric.cuh"
#include "ops/weight_step.h"

namespace isthmus::cuda {
namespace {

constexpr int kThreads = 256;

template <int kWidth>
__global__ void __launch_bounds__(kThreads) WeightStepKernel(float* weight, const float* direction, BFloat16* compute,
                                                             int64_t count, float rate, float scale, float decay) {
  const int64_t stride = int64_t{gridDim.x} * kThreads * kWidth;
  for (int64_t begin = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kWidth; begin < count; begin += stride) {
    float w[kWidth], step[kWidth];
    LoadPack<kWidth>(static_cast<const float*>(weight + begin), w);
    LoadPack<kWidth>(direction + begin, step);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      // This code decides which product of a sum is fused. The compiler's choice would differ between widths.
      const float change = fmaf(decay, w[i], scale * step[i]);
      w[i] += __fmul_rn(-rate, change);
    }
    StorePack<kWidth>(w, weight + begin);
    if (compute != nullptr) StorePack<kWidth>(w, compute + begin);
  }
}

template <int kWidth>
absl::Status Step(const WeightStepArgs& args, const Context& context) {
  const int64_t count = args.weight.columns;
  return Launch(
      "WeightStep", WeightStepKernel<kWidth>, {dim3(StridingBlocks(context, count, kThreads * kWidth)), dim3(kThreads)},
      context, args.weight.As<float>(), args.direction.As<const float>(), args.compute_weight.As<BFloat16>(), count,
      static_cast<float>(args.learning_rate), static_cast<float>(args.scale), static_cast<float>(args.weight_decay));
}

}  // namespace

absl::Status WeightStep(const WeightStepArgs& args, const Context& context) {
  constexpr int kWidth = kPackWidth<float>;
  const bool packs = Packs(args.weight, kWidth) && Packs(args.direction, kWidth) && Packs(args.compute_weight, kWidth);
  return packs ? Step<kWidth>(args, context) : Step<1>(args, context);
}

}  // namespace isthmus::cuda
