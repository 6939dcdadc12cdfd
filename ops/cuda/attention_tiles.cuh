// Tiles of causal attention: a block owns a few rows of one side and meets the rows of the other side a tile at a time.
// A warp owns some of the block's rows. Its lanes share first the columns of a score tile, then those of the head.
#ifndef ISTHMUS_OPS_CUDA_ATTENTION_TILES_CUH_
#define ISTHMUS_OPS_CUDA_ATTENTION_TILES_CUH_

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "ops/attention.h"
#include "ops/cuda/flash_attention.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/numeric.cuh"
#include "ops/cuda/reduce.cuh"

namespace isthmus::cuda {

inline constexpr int kWarps = 4;
inline constexpr int kThreads = kWarps * kWarp;
inline constexpr int kRowsPerWarp = 4;
inline constexpr int kOwnRows = kWarps * kRowsPerWarp;  // rows that a block owns
inline constexpr int kTileRows = kWarp;                 // rows of the other side that it meets at once: one per lane

struct Sizes {
  int sequence_length, heads, kv_heads, head_dim;
  float scale;
  __host__ __device__ int padded() const { return head_dim + 1; }  // row of a tile: lanes meet different banks
};

// The layout [sequence][position][head] of q, k, v or one of their gradients.
template <typename T>
struct HeadRows {
  T* data;
  int64_t stride;
  __device__ __forceinline__ T* At(const Sizes& sizes, int sequence, int position, int head) const {
    return data + (int64_t{sequence} * sizes.sequence_length + position) * stride + int64_t{head} * sizes.head_dim;
  }
};
template <typename T>
HeadRows<T> HeadRowsOf(const ViewFor<T>& tensor) {
  return {tensor.template As<T>(), tensor.row_stride};
}

// Loads rows [first, first + count) of one head to shared memory, `pitch` floats apart, with zeros beyond the sequence.
template <typename T>
__device__ void LoadRows(const HeadRows<const T>& from, const Sizes& sizes, int sequence, int head, int first,
                         int count, float* to, int pitch) {
  for (int i = static_cast<int>(threadIdx.x); i < count * sizes.head_dim; i += kThreads) {
    const int row = i / sizes.head_dim, c = i % sizes.head_dim, position = first + row;
    to[row * pitch + c] = position < sizes.sequence_length ? Widen(from.At(sizes, sequence, position, head)[c]) : 0.0F;
  }
}

// Computes products[r] = row r of the warp's own rows · this lane's row of the tile.
__device__ __forceinline__ void Products(const float* own, const float* tile, const Sizes& sizes,
                                         float (&products)[kRowsPerWarp]) {
  const float* mine = tile + (threadIdx.x % kWarp) * sizes.padded();
#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) products[r] = 0;
  for (int c = 0; c < sizes.head_dim; ++c) {
    const float value = mine[c];
#pragma unroll
    for (int r = 0; r < kRowsPerWarp; ++r) products[r] += own[r * sizes.head_dim + c] * value;
  }
}

// Computes sums[r][part] += Σ over lanes j of weights[r] of lane j · row j of the tile, column lane + 32 part.
template <int kParts>
__device__ __forceinline__ void AddWeightedRows(const float (&weights)[kRowsPerWarp], const float* tile,
                                                const Sizes& sizes, float (&sums)[kRowsPerWarp][kParts]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int j = 0; j < kTileRows; ++j) {
    float weight[kRowsPerWarp];
#pragma unroll
    for (int r = 0; r < kRowsPerWarp; ++r) weight[r] = __shfl_sync(0xffffffffu, weights[r], j);
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      const int c = lane + part * kWarp;
      const float value = c < sizes.head_dim ? tile[j * sizes.padded() + c] : 0.0F;
#pragma unroll
      for (int r = 0; r < kRowsPerWarp; ++r) sums[r][part] += weight[r] * value;
    }
  }
}

// Writes the warp's rows of one head, times `factors`.
template <typename T, int kParts>
__device__ __forceinline__ void StoreRows(const float (&sums)[kRowsPerWarp][kParts],
                                          const float (&factors)[kRowsPerWarp], const HeadRows<T>& to,
                                          const Sizes& sizes, int sequence, int head, int first) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) {
    if (first + r >= sizes.sequence_length) return;
    T* row = to.At(sizes, sequence, first + r, head);
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      const int c = lane + part * kWarp;
      if (c < sizes.head_dim) row[c] = Narrow<T>(sums[r][part] * factors[r]);
    }
  }
}

// The work of a block: blockIdx (rows of kOwnRows, head, sequence), and its warp's first row.
struct Place {
  int block_first, first, head, sequence, lane, warp;
  __device__ __forceinline__ Place()
      : block_first(static_cast<int>(blockIdx.x) * kOwnRows),
        head(static_cast<int>(blockIdx.y)),
        sequence(static_cast<int>(blockIdx.z)),
        lane(static_cast<int>(threadIdx.x) % kWarp),
        warp(static_cast<int>(threadIdx.x) / kWarp) {
    first = block_first + warp * kRowsPerWarp;
  }
};

inline Sizes SizesOf(const AttentionShape& shape, double scale) {
  return {static_cast<int>(shape.sequence_length), static_cast<int>(shape.heads), static_cast<int>(shape.kv_heads),
          static_cast<int>(shape.head_dim), static_cast<float>(scale)};
}

// `own` and `tiles` say how many arrays of either kind a kernel keeps in shared memory.
inline LaunchShape ShapeFor(const AttentionShape& shape, int64_t heads, int own, int tiles) {
  const int64_t floats = own * kOwnRows * shape.head_dim + tiles * kTileRows * (shape.head_dim + 1);
  return {dim3(BlocksFor(shape.sequence_length, kOwnRows), static_cast<unsigned>(heads),
               static_cast<unsigned>(shape.sequences)),
          dim3(kThreads), floats * int64_t{sizeof(float)}};
}

// Calls visit(T{}, parts) with the element type and the number of 32-column parts of a head as a constant.
template <typename Visit>
absl::Status Specialise(DType dtype, int64_t head_dim, const Visit& visit) {
  if (head_dim > kLargestFlashHeadDim) {
    return absl::UnimplementedError(
        absl::StrCat("attention: head_dim ", head_dim, "; GPUs take up to ", kLargestFlashHeadDim));
  }
  return VisitElements(dtype, [&](auto zero) {
    if (head_dim <= kWarp) return visit(zero, std::integral_constant<int, 1>());
    if (head_dim <= 2 * kWarp) return visit(zero, std::integral_constant<int, 2>());
    if (head_dim <= 4 * kWarp) return visit(zero, std::integral_constant<int, 4>());
    return visit(zero, std::integral_constant<int, 8>());
  });
}

}  // namespace isthmus::cuda

#endif  // ISTHMUS_OPS_CUDA_ATTENTION_TILES_CUH_
