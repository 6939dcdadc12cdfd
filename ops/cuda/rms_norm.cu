#include <cmath>

#include "ops/cuda/dynamic_shared.cuh"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/numeric.cuh"
#include "ops/cuda/reduce.cuh"
#include "ops/rms_norm.h"
#include "runtime/status.h"

namespace isthmus::cuda {
namespace {

constexpr int kThreads = 256;

// One block handles one row. A thread meets the same columns in both passes, so that it reads back only what it wrote.
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
  float scale = 1.0F / sqrtf(BlockSum(squares) / static_cast<float>(columns) + epsilon);
  if (scale == 0) scale = NAN;  // the mean is infinite
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

constexpr int kHeldThreads = 512;

// A thread's packs of a row, kHeldThreads packs apart.
template <typename T, int kWidth, int kPacks>
struct HeldRow {
  using P = Pack<T, kWidth>;

  P grad_y[kPacks], x[kPacks], grad_x[kPacks];

  static __device__ int Column(int pack) { return (static_cast<int>(threadIdx.x) + pack * kHeldThreads) * kWidth; }
  // Packs beyond the columns stay as they are.
  __device__ void Fetch(const T* from_grad_y, const T* from_x, const T* from_grad_x, int columns) {
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const int c = Column(p);
      if (c >= columns) continue;
      grad_y[p] = *reinterpret_cast<const P*>(from_grad_y + c);
      x[p] = *reinterpret_cast<const P*>(from_x + c);
      if (from_grad_x != nullptr) grad_x[p] = *reinterpret_cast<const P*>(from_grad_x + c);
    }
  }
};

// Does the same as the kernel below, for rows of at most kPacks packs per thread. Sums stay in registers. The next row
// is loaded while the block adds up this one's dot product.
template <typename T, int kWidth, int kPacks>
__global__ void __launch_bounds__(kHeldThreads)
    RmsNormBackwardHeldKernel(Rows<const T> grad_y, Rows<const T> x, const T* weight, const float* inverse,
                              Rows<T> grad_x, Rows<float> partial, int64_t rows, int columns, bool accumulate) {
  using Held = HeldRow<T, kWidth, kPacks>;
  using P = typename Held::P;
  const int64_t first = int64_t{blockIdx.x} * kRmsNormRowBlock;
  const int64_t last = first + kRmsNormRowBlock < rows ? first + kRmsNormRowBlock : rows;
  const auto column = [](int pack) { return Held::Column(pack); };
  const auto fetch = [&](int64_t row, Held& held) {
    held.Fetch(grad_y[row], x[row], accumulate ? grad_x[row] : nullptr, columns);
  };
  // Packs beyond the columns stay zero and add nothing.
  Held now{}, next{};
  P weights[kPacks] = {};
  float sums[kPacks][kWidth] = {};
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    if (column(p) < columns) weights[p] = *reinterpret_cast<const P*>(weight + column(p));
  }
  fetch(first, now);
  for (int64_t row = first; row < last; ++row) {
    if (row + 1 < last) fetch(row + 1, next);
    const float scale = inverse[row];
    float dot = 0;
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        const float product = Widen(now.grad_y[p].values[i]) * Widen(now.x[p].values[i]);
        dot += product * Widen(weights[p].values[i]);
        sums[p][i] += product * scale;
      }
    }
    const float correction = scale * scale * (BlockSum(dot) / static_cast<float>(columns));
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      if (column(p) >= columns) continue;
      float gx[kWidth];
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        const float change = scale * (Widen(now.grad_y[p].values[i]) * Widen(weights[p].values[i]) -
                                      Widen(now.x[p].values[i]) * correction);
        gx[i] = accumulate ? Widen(now.grad_x[p].values[i]) + change : change;
      }
      StorePack<kWidth>(gx, grad_x[row] + column(p));
    }
    now = next;
  }
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    if (column(p) < columns) StorePack<kWidth>(sums[p], partial[blockIdx.x] + column(p));
  }
}

// Number of columns whose sums fit into the shared memory of a block.
constexpr int kSharedColumns = 48 * 1024 / sizeof(float) - 64;

// One block handles kRmsNormRowBlock rows; `partial` receives their sum of grad_weight. Each column comes from one
// thread, which keeps it in shared memory where it fits.
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

// Adds the rows of `partial` to grad_weight[c]: in row order within each of eight strands, then strand by strand.
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
  const auto launch = [&](auto kernel, int threads, int64_t shared_bytes) {
    return Launch("RmsNormBackward", kernel, {dim3(blocks), dim3(static_cast<unsigned>(threads)), shared_bytes},
                  context, Rows<const T>(args.grad_y), Rows<const T>(args.x), args.weight.As<const T>(),
                  args.inverse.As<const float>(), Rows<T>(args.grad_x), Rows<float>(args.workspace), args.x.rows,
                  columns, args.accumulate);
  };
  const int packs = (columns + kHeldThreads * kWidth - 1) / (kHeldThreads * kWidth);
  if (kWidth > 1 && Packs(args.workspace, kWidth) && packs <= 4) {
    ISTHMUS_RETURN_IF_ERROR(packs == 1   ? launch(RmsNormBackwardHeldKernel<T, kWidth, 1>, kHeldThreads, 0)
                            : packs == 2 ? launch(RmsNormBackwardHeldKernel<T, kWidth, 2>, kHeldThreads, 0)
                                         : launch(RmsNormBackwardHeldKernel<T, kWidth, 4>, kHeldThreads, 0));
  } else {
    ISTHMUS_RETURN_IF_ERROR(launch(RmsNormBackwardKernel<T, kWidth>, kThreads,
                                   columns <= kSharedColumns ? columns * int64_t{sizeof(float)} : 0));
  }
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
