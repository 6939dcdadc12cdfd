#include <cuda_fp8.h>

#include <algorithm>
#include <type_traits>

#include "ops/cuda/launch.cuh"
#include "ops/cuda/numeric.cuh"
#include "ops/cuda/reduce.cuh"
#include "ops/quantize.h"
#include "runtime/status.h"

namespace isthmus::cuda {
namespace {

constexpr int kThreads = 256;

struct LargerOf {
  __device__ __forceinline__ uint32_t operator()(uint32_t a, uint32_t b) const { return max(a, b); }
};

__device__ __forceinline__ uint32_t MagnitudeBits(float value) { return __float_as_uint(value) & 0x7fffffffu; }
__device__ __forceinline__ uint32_t MagnitudeBits(BFloat16 value) {
  return static_cast<uint32_t>(value.bits & 0x7fffu) << 16;
}

// The largest magnitude that each block meets. These are maxima of whole numbers, so any order gives the same result.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    LargestMagnitudeKernel(Rows<const T> x, int64_t rows, int64_t columns, uint32_t* partial) {
  const int64_t packs = columns / kWidth, stride = int64_t{gridDim.x} * kThreads;
  uint32_t largest = 0;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < rows * packs; i += stride) {
    const int64_t row = rows == 1 ? 0 : i / packs;
    const auto pack = *reinterpret_cast<const Pack<T, kWidth>*>(x[row] + (i - row * packs) * kWidth);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) largest = max(largest, MagnitudeBits(pack.values[k]));
  }
  largest = BlockReduce(largest, LargerOf(), 0u);
  if (threadIdx.x == 0) partial[blockIdx.x] = largest;
}

// The codes of two numbers, the first in the lower byte.
template <typename F>
__device__ __forceinline__ uint32_t CodesOf(float low, float high) {
  constexpr auto kFormat = std::is_same_v<F, Float8E4M3> ? __NV_E4M3 : __NV_E5M2;
  return __nv_cvt_float2_to_fp8x2(make_float2(low, high), __NV_SATFINITE, kFormat);
}

// The codes of kWidth numbers of a row, of which `count` exist; the others are 0.
template <typename F, int kWidth, bool kPacked, typename T>
__device__ __forceinline__ Pack<uint8_t, kWidth> QuantizeRow(const T* x, int count, float scale) {
  float value[kWidth] = {};
  if constexpr (kPacked) {
    if (count > 0) LoadPack<kWidth>(x, value);
  } else {
    for (int i = 0; i < count; ++i) value[i] = Widen(x[i]);
  }
  Pack<uint8_t, kWidth> codes;
#pragma unroll
  for (int i = 0; i < kWidth; i += 2) {
    const uint32_t pair = CodesOf<F>(value[i] * scale, value[i + 1] * scale);
    codes.values[i] = static_cast<uint8_t>(pair);
    codes.values[i + 1] = static_cast<uint8_t>(pair >> 8);
  }
  return codes;
}

// Side of the square of x that a block transposes at once. A thread quantises 4 rows of 8 columns, so that the four
// codes of a column make one word. A warp covers 32 rows and 32 columns. Its words therefore go to 32 banks of shared
// memory, and are read back from 32.
constexpr int kTile = 128;
constexpr int kGroupRows = 4, kGroupColumns = 8;
constexpr int kTileWords = kTile / kGroupRows;

// kPacked says that rows of x, y and `transposed` can be read and written in packs.
template <typename T, typename F, bool kPacked>
__global__ void __launch_bounds__(kThreads)
    QuantizeKernel(Rows<const T> x, Rows<uint8_t> y, Rows<uint8_t> transposed, int64_t rows, int64_t columns,
                   const uint32_t* partial, int partials, float* inverse) {
  __shared__ uint32_t tile[kTile][kTileWords + 1];
  uint32_t largest = 0;
  for (int i = static_cast<int>(threadIdx.x); i < partials; i += kThreads) largest = max(largest, partial[i]);
  const Float8Scale scale = ScaleOf<F>(BlockReduce(largest, LargerOf(), 0u));
  if (blockIdx.x == 0 && threadIdx.x == 0) *inverse = scale.inverse;

  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int64_t across = (columns + kTile - 1) / kTile, tiles = across * ((rows + kTile - 1) / kTile);
  for (int64_t t = blockIdx.x; t < tiles; t += gridDim.x) {
    const int64_t first_row = t / across * kTile, first_column = t % across * kTile;
    for (int part = warp; part < 16; part += kThreads / kWarp) {
      const int word = part / 4 * 8 + lane / 4, group = (part % 4 * 4 + lane % 4) * kGroupColumns;
      const int64_t column = first_column + group, left = columns - column;
      const int count = left < 0 ? 0 : static_cast<int>(left < kGroupColumns ? left : kGroupColumns);
      uint32_t words[kGroupColumns] = {};
#pragma unroll
      for (int r = 0; r < kGroupRows; ++r) {
        const int64_t row = first_row + word * kGroupRows + r;
        if (row >= rows || count == 0) continue;
        const auto codes = QuantizeRow<F, kGroupColumns, kPacked>(x[row] + column, count, scale.scale);
        if (y.data != nullptr) {
          if constexpr (kPacked) {
            *reinterpret_cast<Pack<uint8_t, kGroupColumns>*>(y[row] + column) = codes;
          } else {
            for (int i = 0; i < count; ++i) y[row][column + i] = codes.values[i];
          }
        }
#pragma unroll
        for (int i = 0; i < kGroupColumns; ++i) words[i] |= static_cast<uint32_t>(codes.values[i]) << (8 * r);
      }
      if (transposed.data == nullptr) continue;
#pragma unroll
      for (int i = 0; i < kGroupColumns; ++i) tile[group + i][word] = words[i];
    }
    if (transposed.data == nullptr) continue;
    __syncthreads();
    // A thread takes 16 rows of a column, that is 16 bytes of a row of `transposed`.
    for (int piece = static_cast<int>(threadIdx.x); piece < kTile * kTileWords / 4; piece += kThreads) {
      const int c = piece / (kTileWords / 4), word = piece % (kTileWords / 4) * 4;
      const int64_t column = first_column + c, row = first_row + word * kGroupRows;
      if (column >= columns || row >= rows) continue;
      Pack<uint32_t, 4> codes;
#pragma unroll
      for (int i = 0; i < 4; ++i) codes.values[i] = tile[c][word + i];
      if constexpr (kPacked) {
        *reinterpret_cast<Pack<uint32_t, 4>*>(transposed[column] + row) = codes;
      } else {
        for (int i = 0; i < 16 && row + i < rows; ++i) {
          transposed[column][row + i] = static_cast<uint8_t>(codes.values[i / 4] >> (i % 4 * 8));
        }
      }
    }
    __syncthreads();
  }
}

template <typename T, int kWidth>
absl::Status LargestMagnitude(const ConstTensor& x, unsigned blocks, uint32_t* partial, const Context& context) {
  return Launch("Quantize", LargestMagnitudeKernel<T, kWidth>, {dim3(blocks), dim3(kThreads)}, context,
                Rows<const T>(x), x.rows, x.columns, partial);
}

template <typename T, typename F>
absl::Status QuantizeAs(const QuantizeArgs& args, const Context& context) {
  const ConstTensor x = args.x.contiguous() ? args.x.Reshape(1, args.x.size()) : args.x;
  constexpr int kWidth = kPackWidth<T>;
  // There are few blocks, because each block of the second kernel reads the results of all blocks of the first.
  const auto most = static_cast<unsigned>(context.multiprocessors) * 8;
  const unsigned blocks = std::min(most, BlocksFor(x.size(), int64_t{kThreads} * kWidth));
  auto* partial = static_cast<uint32_t*>(context.scratch);
  const absl::Status largest = Packs(x, kWidth) ? LargestMagnitude<T, kWidth>(x, blocks, partial, context)
                                                : LargestMagnitude<T, 1>(x, blocks, partial, context);
  ISTHMUS_RETURN_IF_ERROR(largest);
  const bool packed = Packs(args.x, kGroupColumns) && Packs(args.y, kGroupColumns) && Packs(args.transposed, 16);
  const int64_t tiles = int64_t{BlocksFor(args.x.rows, kTile)} * BlocksFor(args.x.columns, kTile);
  // There is at least one block, which writes the scale of an empty matrix.
  const auto grid = static_cast<unsigned>(std::clamp<int64_t>(tiles, 1, most));
  return Launch("Quantize", packed ? QuantizeKernel<T, F, true> : QuantizeKernel<T, F, false>,
                {dim3(grid), dim3(kThreads)}, context, Rows<const T>(args.x), Rows<uint8_t>(args.y),
                Rows<uint8_t>(args.transposed), args.x.rows, args.x.columns, partial, static_cast<int>(blocks),
                args.inverse.As<float>());
}

}  // namespace

absl::Status Quantize(const QuantizeArgs& args, const Context& context) {
  const DType type = args.y.defined() ? args.y.dtype : args.transposed.dtype;
  return VisitElements(args.x.dtype, [&](auto zero) {
    using T = decltype(zero);
    return type == DType::kFloat8E4M3 ? QuantizeAs<T, Float8E4M3>(args, context)
                                      : QuantizeAs<T, Float8E5M2>(args, context);
  });
}

}  // namespace isthmus::cuda
