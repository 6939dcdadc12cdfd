#include "ops/cuda/launch.cuh"
#include "ops/cuda/numeric.cuh"
#include "ops/tanh.h"

namespace isthmus::cuda {
namespace {

constexpr int kThreads = 256;

// One block handles one row.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads) TanhForwardKernel(Rows<const T> x, Rows<T> y, int columns) {
  for (int c = static_cast<int>(threadIdx.x) * kWidth; c < columns; c += kThreads * kWidth) {
    float value[kWidth];
    LoadPack<kWidth>(x[blockIdx.x] + c, value);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) value[i] = tanhf(value[i]);
    StorePack<kWidth>(value, y[blockIdx.x] + c);
  }
}

template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    TanhBackwardKernel(Rows<const T> grad_y, Rows<T> y, const float* factors, Rows<T> grad_x, int columns) {
  const int64_t row = blockIdx.x;
  const float factor = factors[row];
  for (int c = static_cast<int>(threadIdx.x) * kWidth; c < columns; c += kThreads * kWidth) {
    float value[kWidth], grad[kWidth];
    LoadPack<kWidth>(static_cast<const T*>(y[row]) + c, value);
    LoadPack<kWidth>(grad_y[row] + c, grad);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      grad[i] *= factor * (1.0F - value[i]) * (1.0F + value[i]);
      value[i] *= factor;
    }
    StorePack<kWidth>(grad, grad_x[row] + c);
    StorePack<kWidth>(value, y[row] + c);
  }
}

LaunchShape RowBlocks(int64_t rows) { return {dim3(static_cast<unsigned>(rows)), dim3(kThreads)}; }

template <typename T, int kWidth>
absl::Status Forward(const TanhForwardArgs& args, const Context& context) {
  return Launch("TanhForward", TanhForwardKernel<T, kWidth>, RowBlocks(args.x.rows), context, Rows<const T>(args.x),
                Rows<T>(args.y), static_cast<int>(args.x.columns));
}

template <typename T, int kWidth>
absl::Status Backward(const TanhBackwardArgs& args, const Context& context) {
  return Launch("TanhBackward", TanhBackwardKernel<T, kWidth>, RowBlocks(args.y.rows), context,
                Rows<const T>(args.grad_y), Rows<T>(args.y), args.factors.As<const float>(), Rows<T>(args.grad_x),
                static_cast<int>(args.y.columns));
}

}  // namespace

absl::Status TanhForward(const TanhForwardArgs& args, const Context& context) {
  return VisitElements(args.x.dtype, [&](auto zero) {
    using T = decltype(zero);
    constexpr int kWidth = kPackWidth<T>;
    const bool packs = Packs(args.x, kWidth) && Packs(args.y, kWidth);
    return packs ? Forward<T, kWidth>(args, context) : Forward<T, 1>(args, context);
  });
}

absl::Status TanhBackward(const TanhBackwardArgs& args, const Context& context) {
  return VisitElements(args.y.dtype, [&](auto zero) {
    using T = decltype(zero);
    constexpr int kWidth = kPackWidth<T>;
    const bool packs = Packs(args.grad_y, kWidth) && Packs(args.y, kWidth) && Packs(args.grad_x, kWidth);
    return packs ? Backward<T, kWidth>(args, context) : Backward<T, 1>(args, context);
  });
}

}  // namespace isthmus::cuda
