#include "ops/broadcast.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/numeric.cuh"

namespace isthmus::cuda {
namespace {

constexpr int kThreads = 256;

// One block handles one row at a time.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads) AddRowKernel(const T* x, Rows<float> y, int64_t rows, int64_t columns) {
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    for (int64_t c = int64_t{threadIdx.x} * kWidth; c < columns; c += kThreads * kWidth) {
      float a[kWidth], b[kWidth];
      LoadPack<kWidth>(x + c, a);
      LoadPack<kWidth>(static_cast<const float*>(y[row] + c), b);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) b[i] += a[i];
      StorePack<kWidth>(b, y[row] + c);
    }
  }
}

__global__ void __launch_bounds__(kThreads)
    AddWideRowKernel(const double* x, Rows<double> y, int64_t rows, int64_t columns) {
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    for (int64_t c = threadIdx.x; c < columns; c += kThreads) y[row][c] += x[c];
  }
}

template <typename T, typename Factor, int kWidth>
__global__ void __launch_bounds__(kThreads)
    ScaleRowsKernel(Rows<const T> x, Rows<const Factor> factors, Rows<T> y, int64_t rows, int64_t columns, bool inverse,
                    bool accumulate) {
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const float given = Widen(*factors[row]), factor = inverse ? 1.0F / given : given;
    for (int64_t c = int64_t{threadIdx.x} * kWidth; c < columns; c += kThreads * kWidth) {
      float value[kWidth], sum[kWidth] = {};
      LoadPack<kWidth>(x[row] + c, value);
      if (accumulate) LoadPack<kWidth>(static_cast<const T*>(y[row] + c), sum);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) value[i] = factor * value[i] + sum[i];
      StorePack<kWidth>(value, y[row] + c);
    }
  }
}

template <typename T, typename Factor, int kWidth>
absl::Status Scale(const ScaleRowsArgs& args, const Context& context) {
  return Launch("ScaleRows", ScaleRowsKernel<T, Factor, kWidth>,
                {dim3(StridingBlocks(context, args.x.rows, 1)), dim3(kThreads)}, context, Rows<const T>(args.x),
                Rows<const Factor>(args.factors), Rows<T>(args.y), args.x.rows, args.x.columns, args.inverse,
                args.accumulate);
}

template <typename T, typename Factor>
absl::Status Scale(const ScaleRowsArgs& args, const Context& context) {
  constexpr int kWidth = kPackWidth<T>;
  const bool packs = Packs(args.x, kWidth) && Packs(args.y, kWidth);
  return packs ? Scale<T, Factor, kWidth>(args, context) : Scale<T, Factor, 1>(args, context);
}

}  // namespace

absl::Status AddRow(const AddRowArgs& args, const Context& context) {
  const LaunchShape shape = {dim3(StridingBlocks(context, args.y.rows, 1)), dim3(kThreads)};
  if (args.x.dtype == DType::kFloat64) {
    return Launch("AddRow", AddWideRowKernel, shape, context, args.x.As<const double>(), Rows<double>(args.y),
                  args.y.rows, args.y.columns);
  }
  return VisitElements(args.x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const bool packs = Packs(args.x, 4) && Packs(args.y, 4);
    return Launch("AddRow", packs ? AddRowKernel<T, 4> : AddRowKernel<T, 1>, shape, context, args.x.As<const T>(),
                  Rows<float>(args.y), args.y.rows, args.y.columns);
  });
}

absl::Status ScaleRows(const ScaleRowsArgs& args, const Context& context) {
  if (args.x.dtype == DType::kBFloat16) return Scale<BFloat16, BFloat16>(args, context);
  if (args.factors.dtype == DType::kBFloat16) return Scale<float, BFloat16>(args, context);
  return Scale<float, float>(args, context);
}

}  // namespace isthmus::cuda
