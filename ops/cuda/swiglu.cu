#include "ops/cuda/launch.cuh"
#include "ops/cuda/numeric.cuh"
#include "ops/swiglu.h"

namespace isthmus::cuda {
namespace {

constexpr int kThreads = 256;

__device__ __forceinline__ float Sigmoid(float value) { return 1.0F / (1.0F + expf(-value)); }

// One block handles one row.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads) SwigluForwardKernel(Rows<const T> gate_up, Rows<T> y, int features) {
  const T* row = gate_up[blockIdx.x];
  for (int c = static_cast<int>(threadIdx.x) * kWidth; c < features; c += kThreads * kWidth) {
    float gate[kWidth], up[kWidth];
    LoadPack<kWidth>(row + c, gate);
    LoadPack<kWidth>(row + features + c, up);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) gate[i] = gate[i] * Sigmoid(gate[i]) * up[i];
    StorePack<kWidth>(gate, y[blockIdx.x] + c);
  }
}

template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    SwigluBackwardKernel(Rows<const T> grad_y, Rows<const T> gate_up, Rows<T> grad_gate_up, Rows<T> y, int features) {
  const int64_t row = blockIdx.x;
  for (int c = static_cast<int>(threadIdx.x) * kWidth; c < features; c += kThreads * kWidth) {
    float gate[kWidth], up[kWidth], grad[kWidth], result[kWidth];
    LoadPack<kWidth>(gate_up[row] + c, gate);
    LoadPack<kWidth>(gate_up[row] + features + c, up);
    LoadPack<kWidth>(grad_y[row] + c, grad);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float sigmoid = Sigmoid(gate[i]), silu = gate[i] * sigmoid;
      result[i] = silu * up[i];
      // silu'(a) = s + a s (1 - s)
      gate[i] = grad[i] * up[i] * (sigmoid + silu * (1.0F - sigmoid));
      up[i] = grad[i] * silu;
    }
    StorePack<kWidth>(gate, grad_gate_up[row] + c);
    StorePack<kWidth>(up, grad_gate_up[row] + features + c);
    if (y.data != nullptr) StorePack<kWidth>(result, y[row] + c);
  }
}

LaunchShape BlockPerRow(int64_t rows) { return {dim3(static_cast<unsigned>(rows)), dim3(kThreads)}; }

template <typename T, int kWidth>
absl::Status Forward(const SwigluForwardArgs& args, const Context& context) {
  const int64_t features = args.y.columns;
  return Launch("SwigluForward", SwigluForwardKernel<T, kWidth>, BlockPerRow(args.y.rows), context,
                Rows<const T>(args.gate_up), Rows<T>(args.y), static_cast<int>(features));
}

template <typename T, int kWidth>
absl::Status Backward(const SwigluBackwardArgs& args, const Context& context) {
  const int64_t features = args.grad_y.columns;
  return Launch("SwigluBackward", SwigluBackwardKernel<T, kWidth>, BlockPerRow(args.grad_y.rows), context,
                Rows<const T>(args.grad_y), Rows<const T>(args.gate_up), Rows<T>(args.grad_gate_up), Rows<T>(args.y),
                static_cast<int>(features));
}

}  // namespace

absl::Status SwigluForward(const SwigluForwardArgs& args, const Context& context) {
  return VisitElements(args.y.dtype, [&](auto zero) {
    using T = decltype(zero);
    constexpr int kWidth = kPackWidth<T>;
    const bool packs = Packs(args.y, kWidth) && Packs(args.gate_up, kWidth);
    return packs ? Forward<T, kWidth>(args, context) : Forward<T, 1>(args, context);
  });
}

absl::Status SwigluBackward(const SwigluBackwardArgs& args, const Context& context) {
  return VisitElements(args.grad_y.dtype, [&](auto zero) {
    using T = decltype(zero);
    constexpr int kWidth = kPackWidth<T>;
    const bool packs = Packs(args.grad_y, kWidth) && Packs(args.gate_up, kWidth) && Packs(args.grad_gate_up, kWidth) &&
                       Packs(args.y, kWidth);
    return packs ? Backward<T, kWidth>(args, context) : Backward<T, 1>(args, context);
  });
}

}  // namespace isthmus::cuda
