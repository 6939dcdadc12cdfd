#include "ops/cuda/launch.cuh"
#include "ops/cuda/numeric.cuh"
#include "ops/split.h"

namespace isthmus::cuda {
namespace {

constexpr int kThreads = 256;

// Writes the values rounded to bf16 to `part`, and leaves the rest that rounding drops in their place.
template <int kWidth>
__device__ __forceinline__ void Take(float (&values)[kWidth], BFloat16* part) {
  StorePack<kWidth>(values, part);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) values[i] -= Widen(Narrow<BFloat16>(values[i]));
}

// One block handles one row.
template <int kWidth>
__global__ void __launch_bounds__(kThreads)
    SplitKernel(Rows<const float> x, Rows<BFloat16> high, Rows<BFloat16> middle, Rows<BFloat16> low, int64_t columns) {
  const int64_t row = blockIdx.x;
  for (int64_t c = int64_t{threadIdx.x} * kWidth; c < columns; c += int64_t{kThreads} * kWidth) {
    float values[kWidth];
    LoadPack<kWidth>(x[row] + c, values);
    Take<kWidth>(values, high[row] + c);
    Take<kWidth>(values, middle[row] + c);
    Take<kWidth>(values, low[row] + c);
  }
}

template <int kWidth>
absl::Status SplitPacks(const SplitArgs& args, const Context& context) {
  return Launch("Split", SplitKernel<kWidth>, {dim3(static_cast<unsigned>(args.x.rows)), dim3(kThreads)}, context,
                Rows<const float>(args.x), Rows<BFloat16>(args.high), Rows<BFloat16>(args.middle),
                Rows<BFloat16>(args.low), args.x.columns);
}

}  // namespace

absl::Status Split(const SplitArgs& args, const Context& context) {
  constexpr int kWidth = kPackWidth<float>;
  const bool packs =
      Packs(args.x, kWidth) && Packs(args.high, kWidth) && Packs(args.middle, kWidth) && Packs(args.low, kWidth);
  return packs ? SplitPacks<kWidth>(args, context) : SplitPacks<1>(args, context);
}

}  // namespace isthmus::cuda
