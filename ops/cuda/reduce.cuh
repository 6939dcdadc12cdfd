// Sums and maxima over the threads of a warp and of a block, in a fixed order.
#ifndef ISTHMUS_OPS_CUDA_REDUCE_CUH_
#define ISTHMUS_OPS_CUDA_REDUCE_CUH_

#include <cuda_runtime.h>

namespace isthmus::cuda {

inline constexpr int kWarp = 32;

struct SumOf {
  template <typename T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a + b;
  }
};

struct MaximumOf {
  __device__ __forceinline__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

// Every lane receives the result.
template <typename T, typename Combine>
__device__ __forceinline__ T WarpReduce(T value, Combine combine) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    value = combine(value, __shfl_xor_sync(0xffffffffu, value, offset));
  }
  return value;
}

// Every thread receives the result. All threads of the block take part; their number is a multiple of 32 and at most
// 1024. Ends with a barrier, so that it may be called again at once.
template <typename T, typename Combine>
__device__ __forceinline__ T BlockReduce(T value, Combine combine, T identity) {
  __shared__ T partial[kWarp];
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  value = WarpReduce(value, combine);
  if (lane == 0) partial[warp] = value;
  __syncthreads();
  T total = lane < warps ? partial[lane] : identity;
  total = WarpReduce(total, combine);
  __syncthreads();
  return total;
}

template <typename T>
__device__ __forceinline__ T BlockSum(T value) {
  return BlockReduce(value, SumOf(), T{});
}

}  // namespace isthmus::cuda

#endif  // ISTHMUS_OPS_CUDA_REDUCE_CUH_
