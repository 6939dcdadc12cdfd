#include "ops/cuda/dynamic_shared.cuh"
#include "ops/cuda/kernels.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/numeric.cuh"
#include "ops/cuda/reduce.cuh"
#include "ops/rms_norm.h"
#include "runtime/status.h"

namespace isthmus::cuda {
namespace {

constexpr int kThreads = 256;

// One block per row. A thread meets the same columns in both passes, so that it reads back only what it wrote.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    RmsNormForwardKernel(Rows<const T> x, Rows<const T> addend, Rows<T> sum, const T* weight, Rows<T> y, float* inverse,
                         int columns, float epsilon) {
  const int64_t row = blockIdx.x;
  const T* s = x[row];
  float squares = 0;
  for (int c = static_cast<int>(threadIdx.x) * kWidth; c < columns; c += kThreads * kWidth) {
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
    for (int i = 0; i < kWidth; ++i) squares += value[i] * value[i];
  }
  if (addend.data != nullptr) s = sum[row];
  const float scale = 1.0F / sqrtf(BlockSum(squares) / static_cast<float>(columns) + epsilon);
  if (threadIdx.x == 0) inverse[row] = scale;
  for (int c = static_cast<int>(threadIdx.x) * kWidth; c < columns; c += kThreads * kWidth) {
    float value[kWidth], w[kWidth];
    LoadPack<kWidth>(s + c, value);
    LoadPack<kWidth>(weight + c, w);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) value[i] = value[i] * scale * w[i];
    StorePack<kWidth>(value, y[row] + c);
  }
}

// Columns whose sums fit into the shared memory of a block.
constexpr int kSharedColumns = 48 * 1024 / sizeof(float) - 64;

// One block per kRmsNormRowBlock rows; `partial` receives their sum of grad_weight, each column from one thread, who
// keeps it in shared memory where it fits.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    RmsNormBackwardKernel(Rows<const T> grad_y, Rows<const T> x, const T* weight, const float* inverse, Rows<T> grad_x,
                          Rows<float> partial, int64_t rows, int columns, bool accumulate) {
  const int64_t first = int64_t{blockIdx.x} * kRmsNormRowBlock;
  const int64_t last = first + kRmsNormRowBlock < rows ? first + kRmsNormRowBlock : rows;
  float* grad_weight = columns <= kSharedColumns ? DynamicShared<float>() : partial[blockIdx.x];
  for (int64_t row = first; row < last; ++row) {
    const float scale = inverse[row];
    float dot = 0;
    for (int c = static_cast<int>(threadIdx.x) * kWidth; c < columns; c += kThreads * kWidth) {
      float gy[kWidth], s[kWidth], w[kWidth], sum[kWidth] = {};
      LoadPack<kWidth>(grad_y[row] + c, gy);
      LoadPack<kWidth>(x[row] + c, s);
      LoadPack<kWidth>(weight + c, w);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        if (row > first) sum[i] = grad_weight[c + i];
        dot += gy[i] * w[i] * s[i];
        grad_weight[c + i] = sum[i] + gy[i] * s[i] * scale;
      }
    }
    const float correction = scale * scale * (BlockSum(dot) / static_cast<float>(columns));
    for (int c = static_cast<int>(threadIdx.x) * kWidth; c < columns; c += kThreads * kWidth) {
      float gy[kWidth], s[kWidth], w[kWidth], gx[kWidth] = {};
      LoadPack<kWidth>(grad_y[row] + c, gy);
      LoadPack<kWidth>(x[row] + c, s);
      LoadPack<kWidth>(weight + c, w);
      if (accumulate) LoadPack<kWidth>(static_cast<const T*>(grad_x[row] + c), gx);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) gx[i] += scale * (gy[i] * w[i] - s[i] * correction);
      StorePack<kWidth>(gx, grad_x[row] + c);
    }
  }
  if (columns > kSharedColumns) return;
  for (int c = static_cast<int>(threadIdx.x) * kWidth; c < columns; c += kThreads * kWidth) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) partial[blockIdx.x][c + i] = grad_weight[c + i];
  }
}

// grad_weight[c] += the rows of `partial`, in order of the rows within each of eight strands, then of the strands.
__global__ void __launch_bounds__(kThreads)
    AddPartialRowsKernel(const float* partial, int64_t stride, int rows, float* grad_weight, int columns) {
  constexpr int kStrands = kThreads / kWarp;
  __shared__ float strands[kStrands][kWarp];
  const int lane = static_cast<int>(threadIdx.x) % kWarp, strand = static_cast<int>(threadIdx.x) / kWarp;
  const int column = static_cast<int>(blockIdx.x) * kWarp + lane;
  float sum = 0;
  if (column < columns) {
    for (int row = strand; row < rows; row += kStrands) sum += partial[row * stride + column];
  }
  strands[strand][lane] = sum;
  __syncthreads();
  if (strand != 0 || column >= columns) return;
  for (int i = 1; i < kStrands; ++i) sum += strands[i][lane];
  grad_weight[column] += sum;
}

template <typename T, int kWidth>
absl::Status Forward(const RmsNormForwardArgs& args, const Context& context) {
  return Launch("RmsNormForward", RmsNormForwardKernel<T, kWidth>,
                {dim3(static_cast<unsigned>(args.x.rows)), dim3(kThreads)}, context, Rows<const T>(args.x),
                Rows<const T>(args.addend), Rows<T>(args.sum), args.weight.As<const T>(), Rows<T>(args.y),
                args.inverse.As<float>(), static_cast<int>(args.x.columns), static_cast<float>(args.epsilon));
}

template <typename T, int kWidth>
absl::Status Backward(const RmsNormBackwardArgs& args, const Context& context) {
  const auto blocks = static_cast<unsigned>(RmsNormWorkspaceRows(args.x.rows));
  const int columns = static_cast<int>(args.x.columns);
  const int64_t shared_bytes = columns <= kSharedColumns ? columns * int64_t{sizeof(float)} : 0;
  ISTHMUS_RETURN_IF_ERROR(Launch(
      "RmsNormBackward", RmsNormBackwardKernel<T, kWidth>, {dim3(blocks), dim3(kThreads), shared_bytes}, context,
      Rows<const T>(args.grad_y), Rows<const T>(args.x), args.weight.As<const T>(), args.inverse.As<const float>(),
      Rows<T>(args.grad_x), Rows<float>(args.workspace), args.x.rows, columns, args.accumulate));
  return Launch("RmsNormBackward", AddPartialRowsKernel, {dim3(BlocksFor(columns, kWarp)), dim3(kThreads)}, context,
                args.workspace.As<const float>(), args.workspace.row_stride, static_cast<int>(blocks),
                args.grad_weight.As<float>(), columns);
}

}  // namespace

absl::Status RmsNormForward(const RmsNormForwardArgs& args, const Context& context) {
  return VisitElements(args.x.dtype, [&](auto zero) {
    using T = decltype(zero);
    constexpr int kWidth = kPackWidth<T>;
    const bool packs = Packs(args.x, kWidth) && Packs(args.addend, kWidth) && Packs(args.sum, kWidth) &&
                       Packs(args.weight, kWidth) && Packs(args.y, kWidth);
    return packs ? Forward<T, kWidth>(args, context) : Forward<T, 1>(args, context);
  });
}

absl::Status RmsNormBackward(const RmsNormBackwardArgs& args, const Context& context) {
  return VisitElements(args.x.dtype, [&](auto zero) {
    using T = decltype(zero);
    constexpr int kWidth = kPackWidth<T>;
    const bool packs =
        Packs(args.grad_y, kWidth) && Packs(args.x, kWidth) && Packs(args.weight, kWidth) && Packs(args.grad_x, kWidth);
    return packs ? Backward<T, kWidth>(args, context) : Backward<T, 1>(args, context);
  });
}

}  // namespace isthmus::cuda
