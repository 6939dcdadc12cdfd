#include <cmath>

#include "ops/cuda/dynamic_shared.cuh"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/numeric.cuh"
#include "ops/cuda/reduce.cuh"
#include "ops/layer_norm.h"
#include "runtime/status.h"

namespace isthmus::cuda {
namespace {

constexpr int kThreads = 256;

// One block handles one row. A thread meets the same columns in all passes, so that it reads back only what it wrote.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    LayerNormForwardKernel(Rows<const T> x, Rows<const T> addend, Rows<T> sum, const T* weight, const T* bias,
                           Rows<T> y, Rows<float> statistics, int columns, float epsilon) {
  const int64_t row = blockIdx.x;
  const int first = static_cast<int>(threadIdx.x) * kWidth;
  const T* s = x[row];
  float total = 0;
  for (int c = first; c < columns; c += kThreads * kWidth) {
    float value[kWidth];
    LoadPack<kWidth>(s + c, value);
    if (addend.data != nullptr) {
      float more[kWidth];
      LoadPack<kWidth>(addend[row] + c, more);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) value[i] = Widen(Narrow<T>(value[i] + more[i]));
      StorePack<kWidth>(value, sum[row] + c);
    }
#pragma unroll
    for (int i = 0; i < kWidth; ++i) total += value[i];
  }
  if (addend.data != nullptr) s = sum[row];
  const float mean = BlockSum(total) / static_cast<float>(columns);
  float squares = 0;
  for (int c = first; c < columns; c += kThreads * kWidth) {
    float value[kWidth];
    LoadPack<kWidth>(s + c, value);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) squares += (value[i] - mean) * (value[i] - mean);
  }
  float scale = 1.0F / sqrtf(BlockSum(squares) / static_cast<float>(columns) + epsilon);
  if (scale == 0) scale = NAN;  // the variance is infinite
  if (threadIdx.x == 0) {
    statistics[0][row] = mean;
    statistics[1][row] = scale;
  }
  for (int c = first; c < columns; c += kThreads * kWidth) {
    float value[kWidth], w[kWidth], b[kWidth];
    LoadPack<kWidth>(s + c, value);
    LoadPack<kWidth>(weight + c, w);
    LoadPack<kWidth>(bias + c, b);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) value[i] = (value[i] - mean) * scale * w[i] + b[i];
    StorePack<kWidth>(value, y[row] + c);
  }
}

// This many columns, with two sums each, fit into the shared memory of a block.
constexpr int kSharedColumns = (48 * 1024 / sizeof(float) - 64) / 2;

// One block handles kLayerNormRowBlock rows. `partial` receives their sums: row b of the weight's gradient, row
// gridDim.x + b of the bias's. Each column comes from one thread, which keeps it in shared memory where it fits.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    LayerNormBackwardKernel(Rows<const T> grad_y, Rows<const T> x, const T* weight, Rows<const float> statistics,
                            Rows<T> grad_x, Rows<float> partial, int64_t rows, int columns, bool accumulate) {
  const int64_t first = int64_t{blockIdx.x} * kLayerNormRowBlock;
  const int64_t last = first + kLayerNormRowBlock < rows ? first + kLayerNormRowBlock : rows;
  const int start = static_cast<int>(threadIdx.x) * kWidth;
  const bool shared = columns <= kSharedColumns;
  float* grad_weight = shared ? DynamicShared<float>() : partial[blockIdx.x];
  float* grad_bias = shared ? grad_weight + columns : partial[gridDim.x + blockIdx.x];
  for (int64_t row = first; row < last; ++row) {
    const float mean = statistics[0][row], scale = statistics[1][row];
    float total = 0, dot = 0;
    for (int c = start; c < columns; c += kThreads * kWidth) {
      float gy[kWidth], s[kWidth], w[kWidth];
      LoadPack<kWidth>(grad_y[row] + c, gy);
      LoadPack<kWidth>(x[row] + c, s);
      LoadPack<kWidth>(weight + c, w);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        const float normed = (s[i] - mean) * scale;
        total += gy[i] * w[i];
        dot += gy[i] * w[i] * normed;
        grad_weight[c + i] = (row > first ? grad_weight[c + i] : 0.0F) + gy[i] * normed;
        grad_bias[c + i] = (row > first ? grad_bias[c + i] : 0.0F) + gy[i];
      }
    }
    const float mean_gradient = BlockSum(total) / static_cast<float>(columns);
    const float along = BlockSum(dot) / static_cast<float>(columns);
    for (int c = start; c < columns; c += kThreads * kWidth) {
      float gy[kWidth], s[kWidth], w[kWidth], gx[kWidth] = {};
      LoadPack<kWidth>(grad_y[row] + c, gy);
      LoadPack<kWidth>(x[row] + c, s);
      LoadPack<kWidth>(weight + c, w);
      if (accumulate) LoadPack<kWidth>(static_cast<const T*>(grad_x[row] + c), gx);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        gx[i] += scale * (gy[i] * w[i] - mean_gradient - (s[i] - mean) * scale * along);
      }
      StorePack<kWidth>(gx, grad_x[row] + c);
    }
  }
  if (!shared) return;
  for (int c = start; c < columns; c += kThreads * kWidth) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      partial[blockIdx.x][c + i] = grad_weight[c + i];
      partial[gridDim.x + blockIdx.x][c + i] = grad_bias[c + i];
    }
  }
}

// Adds rows [first, first + rows) of `partial` to gradient[c]: in row order within each of eight strands, then strand by
// strand.
__global__ void __launch_bounds__(kThreads)
    AddLayerNormPartialsKernel(Rows<const float> partial, int first, int rows, float* gradient, int columns) {
  constexpr int kStrands = kThreads / kWarp;
  __shared__ float strands[kStrands][kWarp];
  const int lane = static_cast<int>(threadIdx.x) % kWarp, strand = static_cast<int>(threadIdx.x) / kWarp;
  const int column = static_cast<int>(blockIdx.x) * kWarp + lane;
  float sum = 0;
  if (column < columns) {
    for (int row = strand; row < rows; row += kStrands) sum += partial[first + row][column];
  }
  strands[strand][lane] = sum;
  __syncthreads();
  if (strand != 0 || column >= columns) return;
  for (int i = 1; i < kStrands; ++i) sum += strands[i][lane];
  gradient[column] += sum;
}

template <typename T, int kWidth>
absl::Status Forward(const LayerNormForwardArgs& args, const Context& context) {
  return Launch("LayerNormForward", LayerNormForwardKernel<T, kWidth>,
                {dim3(static_cast<unsigned>(args.x.rows)), dim3(kThreads)}, context, Rows<const T>(args.x),
                Rows<const T>(args.addend), Rows<T>(args.sum), args.weight.As<const T>(), args.bias.As<const T>(),
                Rows<T>(args.y), Rows<float>(args.statistics), static_cast<int>(args.x.columns),
                static_cast<float>(args.epsilon));
}

template <typename T, int kWidth>
absl::Status Backward(const LayerNormBackwardArgs& args, const Context& context) {
  const auto blocks = static_cast<int>(LayerNormWorkspaceRows(args.x.rows) / 2);
  const int columns = static_cast<int>(args.x.columns);
  ISTHMUS_RETURN_IF_ERROR(Launch("LayerNormBackward", LayerNormBackwardKernel<T, kWidth>,
                                 {dim3(static_cast<unsigned>(blocks)), dim3(kThreads),
                                  columns <= kSharedColumns ? 2 * columns * int64_t{sizeof(float)} : 0},
                                 context, Rows<const T>(args.grad_y), Rows<const T>(args.x), args.weight.As<const T>(),
                                 Rows<const float>(args.statistics), Rows<T>(args.grad_x), Rows<float>(args.workspace),
                                 args.x.rows, columns, args.accumulate));
  const auto add = [&](int first, const Tensor& gradient) {
    return Launch("LayerNormBackward", AddLayerNormPartialsKernel, {dim3(BlocksFor(columns, kWarp)), dim3(kThreads)},
                  context, Rows<const float>(args.workspace), first, blocks, gradient.As<float>(), columns);
  };
  ISTHMUS_RETURN_IF_ERROR(add(0, args.grad_weight));
  return add(blocks, args.grad_bias);
}

}  // namespace

absl::Status LayerNormForward(const LayerNormForwardArgs& args, const Context& context) {
  return VisitElements(args.x.dtype, [&](auto zero) {
    using T = decltype(zero);
    constexpr int kWidth = kPackWidth<T>;
    const bool packs = Packs(args.x, kWidth) && Packs(args.addend, kWidth) && Packs(args.sum, kWidth) &&
                       Packs(args.weight, kWidth) && Packs(args.bias, kWidth) && Packs(args.y, kWidth);
    return packs ? Forward<T, kWidth>(args, context) : Forward<T, 1>(args, context);
  });
}

absl::Status LayerNormBackward(const LayerNormBackwardArgs& args, const Context& context) {
  return VisitElements(args.x.dtype, [&](auto zero) {
    using T = decltype(zero);
    constexpr int kWidth = kPackWidth<T>;
    const bool packs =
        Packs(args.grad_y, kWidth) && Packs(args.x, kWidth) && Packs(args.weight, kWidth) && Packs(args.grad_x, kWidth);
    return packs ? Backward<T, kWidth>(args, context) : Backward<T, 1>(args, context);
  });
}

}  // namespace isthmus::cuda
