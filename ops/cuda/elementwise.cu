#include <absl/strings/str_cat.h>

#include <algorithm>

#include "ops/cuda/launch.cuh"
#include "ops/cuda/numeric.cuh"
#include "ops/cuda/reduce.cuh"
#include "ops/elementwise.h"
#include "runtime/status.h"

namespace isthmus::cuda {
namespace {

constexpr int kThreads = 256;
// One more block adds the partial sums of these blocks. Their number is fixed, so that the bits do not depend on the
// device.
constexpr int64_t kSumBlocks = 1024;

// Views a contiguous tensor as one row. That saves divisions, and allows packs where the columns alone would not.
template <typename View>
View Flat(const View& tensor) {
  return tensor.contiguous() ? tensor.Reshape(1, tensor.size()) : tensor;
}

// The arguments of an elementwise operator, with x and y as one row each where both are contiguous.
template <typename Args>
Args FlatPair(Args args) {
  if (args.x.contiguous() && args.y.contiguous()) {
    args.x = Flat(args.x);
    args.y = Flat(args.y);
  }
  return args;
}

// Visits the packs of a [rows, columns] tensor in a grid-stride loop: visit(row, column).
template <int kWidth, typename Visit>
__device__ __forceinline__ void ForPacks(int64_t rows, int64_t columns, const Visit& visit) {
  const int64_t packs = columns / kWidth, stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < rows * packs; i += stride) {
    if (rows == 1) {
      visit(int64_t{0}, i * kWidth);
    } else {
      visit(i / packs, i % packs * kWidth);
    }
  }
}

template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads) AddKernel(Rows<const T> x, Rows<T> y, int64_t rows, int64_t columns) {
  ForPacks<kWidth>(rows, columns, [&](int64_t row, int64_t c) {
    float a[kWidth], b[kWidth];
    LoadPack<kWidth>(x[row] + c, a);
    LoadPack<kWidth>(static_cast<const T*>(y[row] + c), b);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) b[i] += a[i];
    StorePack<kWidth>(b, y[row] + c);
  });
}

__global__ void __launch_bounds__(kThreads)
    SubtractKernel(Rows<const float> x, Rows<float> y, int64_t rows, int64_t columns) {
  ForPacks<1>(rows, columns, [&](int64_t row, int64_t c) { y[row][c] = x[row][c] - y[row][c]; });
}

template <int kWidth>
__global__ void __launch_bounds__(kThreads)
    CombineKernel(Rows<const float> x, Rows<float> y, int64_t rows, int64_t columns, float x_factor, float y_factor) {
  ForPacks<kWidth>(rows, columns, [&](int64_t row, int64_t c) {
    float a[kWidth], b[kWidth] = {};
    LoadPack<kWidth>(x[row] + c, a);
    if (y_factor != 0) LoadPack<kWidth>(static_cast<const float*>(y[row] + c), b);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      // This code decides which product is fused. The compiler's choice would differ between widths.
      const float part = x_factor * a[i];
      b[i] = y_factor != 0 ? fmaf(y_factor, b[i], part) : part;
    }
    StorePack<kWidth>(b, y[row] + c);
  });
}

__global__ void __launch_bounds__(kThreads) WideCombineKernel(Rows<const double> x, Rows<double> y, int64_t rows,
                                                              int64_t columns, double x_factor, double y_factor) {
  ForPacks<1>(rows, columns, [&](int64_t row, int64_t c) {
    const double part = x_factor * x[row][c];
    y[row][c] = y_factor != 0 ? fma(y_factor, y[row][c], part) : part;
  });
}

template <typename From, typename To, int kWidth>
__global__ void __launch_bounds__(kThreads) CastKernel(Rows<const From> x, Rows<To> y, int64_t rows, int64_t columns) {
  ForPacks<kWidth>(rows, columns, [&](int64_t row, int64_t c) {
    float value[kWidth];
    LoadPack<kWidth>(x[row] + c, value);
    StorePack<kWidth>(value, y[row] + c);
  });
}

// At least one of them is fp64.
template <typename From, typename To>
__global__ void __launch_bounds__(kThreads)
    WideCastKernel(Rows<const From> x, Rows<To> y, int64_t rows, int64_t columns) {
  ForPacks<1>(rows, columns, [&](int64_t row, int64_t c) { y[row][c] = static_cast<To>(Exactly(x[row][c])); });
}

enum class Summand { kValue, kSquare, kProduct };

// Only kProduct reads y.
template <typename T, Summand kSummand, int kWidth>
__global__ void __launch_bounds__(kThreads)
    PartialSumsKernel(Rows<const T> x, Rows<const T> y, int64_t rows, int64_t columns, double* partial) {
  double sum = 0;
  ForPacks<kWidth>(rows, columns, [&](int64_t row, int64_t c) {
    const auto pack = *reinterpret_cast<const Pack<T, kWidth>*>(x[row] + c);
    auto other = pack;
    if constexpr (kSummand == Summand::kProduct) other = *reinterpret_cast<const Pack<T, kWidth>*>(y[row] + c);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const double value = Exactly(pack.values[i]);
      sum += kSummand == Summand::kValue ? value : value * Exactly(other.values[i]);
    }
  });
  sum = BlockSum(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kThreads) AddSumKernel(const double* partial, int count, double* total) {
  double sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) sum += partial[i];
  sum = BlockSum(sum);
  if (threadIdx.x == 0) *total += sum;
}

template <int kWidth>
__global__ void __launch_bounds__(kThreads)
    NormaliseKernel(Rows<float> x, int64_t rows, int64_t columns, const double* squares, double epsilon) {
  const auto factor = static_cast<float>(1 / (sqrt(*squares) + epsilon));
  ForPacks<kWidth>(rows, columns, [&](int64_t row, int64_t c) {
    float value[kWidth];
    LoadPack<kWidth>(static_cast<const float*>(x[row] + c), value);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) value[i] *= factor;
    StorePack<kWidth>(value, x[row] + c);
  });
}

template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    ScaleToNormKernel(Rows<T> x, int64_t rows, int64_t columns, const double* squares) {
  if (squares[0] == 0) return;
  const auto factor = static_cast<float>(sqrt(squares[1] / squares[0]));
  ForPacks<kWidth>(rows, columns, [&](int64_t row, int64_t c) {
    float value[kWidth];
    LoadPack<kWidth>(static_cast<const T*>(x[row] + c), value);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) value[i] *= factor;
    StorePack<kWidth>(value, x[row] + c);
  });
}

template <typename T, Summand kSummand, int kWidth>
absl::Status SumPacksInto(const ConstTensor& x, const ConstTensor& y, const Tensor& total, const Context& context) {
  const int64_t blocks = std::min<int64_t>(BlocksFor(x.size(), int64_t{kThreads} * kWidth), kSumBlocks);
  auto* partial = static_cast<double*>(context.scratch);
  ISTHMUS_RETURN_IF_ERROR(Launch("Sum", PartialSumsKernel<T, kSummand, kWidth>,
                                 {dim3(static_cast<unsigned>(blocks)), dim3(kThreads)}, context, Rows<const T>(x),
                                 Rows<const T>(y), x.rows, x.columns, partial));
  return Launch("Sum", AddSumKernel, {dim3(1), dim3(kThreads)}, context, partial, static_cast<int>(blocks),
                total.As<double>());
}

template <typename T, Summand kSummand>
absl::Status SumInto(const AddDotArgs& args, const Context& context) {
  const auto [x, y, total] = FlatPair(args);
  constexpr int kWidth = kPackWidth<T>;
  return Packs(x, kWidth) && Packs(y, kWidth) ? SumPacksInto<T, kSummand, kWidth>(x, y, total, context)
                                              : SumPacksInto<T, kSummand, 1>(x, y, total, context);
}

template <Summand kSummand>
absl::Status SumOfAny(const AddDotArgs& args, const Context& context) {
  return VisitNumbers(args.x.dtype, [&](auto zero) { return SumInto<decltype(zero), kSummand>(args, context); });
}

LaunchShape ShapeFor(const Context& context, const Tensor& tensor, int width) {
  return {dim3(StridingBlocks(context, tensor.size(), int64_t{kThreads} * width)), dim3(kThreads)};
}

// Sizes are in bytes. Two-dimensional copies take a pitch below 2 GiB, so one row of a large tensor is copied as a
// line.
struct Extent {
  size_t width, height, pitch;
};
Extent ExtentOf(const ConstTensor& tensor) {
  const int64_t bytes = SizeOf(tensor.dtype);
  return {static_cast<size_t>(tensor.columns * bytes), static_cast<size_t>(tensor.rows),
          static_cast<size_t>(tensor.row_stride * bytes)};
}

template <typename T, int kWidth>
absl::Status AddPacks(const ConstTensor& x, const Tensor& y, const Context& context) {
  return Launch("Add", AddKernel<T, kWidth>, ShapeFor(context, y, kWidth), context, Rows<const T>(x), Rows<T>(y),
                y.rows, y.columns);
}

template <int kWidth>
absl::Status CombinePacks(const CombineArgs& args, const Context& context) {
  return Launch("Combine", CombineKernel<kWidth>, ShapeFor(context, args.y, kWidth), context, Rows<const float>(args.x),
                Rows<float>(args.y), args.y.rows, args.y.columns, static_cast<float>(args.x_factor),
                static_cast<float>(args.y_factor));
}

template <typename From, typename To>
absl::Status CastBetween(const ConstTensor& x, const Tensor& y, const Context& context) {
  // A store of more than 16 bytes becomes two, each of which leaves gaps between neighbouring threads.
  constexpr int kWidth = sizeof(To) > sizeof(From) ? 4 : 8;
  if (Packs(x, kWidth) && Packs(y, kWidth)) {
    return Launch("Cast", CastKernel<From, To, kWidth>, ShapeFor(context, y, kWidth), context, Rows<const From>(x),
                  Rows<To>(y), y.rows, y.columns);
  }
  return Launch("Cast", CastKernel<From, To, 1>, ShapeFor(context, y, 1), context, Rows<const From>(x), Rows<To>(y),
                y.rows, y.columns);
}

template <typename From, typename To>
absl::Status WideCast(const ConstTensor& x, const Tensor& y, const Context& context) {
  return Launch("Cast", WideCastKernel<From, To>, ShapeFor(context, y, 1), context, Rows<const From>(x), Rows<To>(y),
                y.rows, y.columns);
}

}  // namespace

absl::Status Add(const AddArgs& args, const Context& context) {
  const AddArgs flat = FlatPair(args);
  return VisitElements(flat.y.dtype, [&](auto zero) {
    using T = decltype(zero);
    constexpr int kWidth = kPackWidth<T>;
    return Packs(flat.x, kWidth) && Packs(flat.y, kWidth) ? AddPacks<T, kWidth>(flat.x, flat.y, context)
                                                          : AddPacks<T, 1>(flat.x, flat.y, context);
  });
}

absl::Status SubtractFrom(const SubtractFromArgs& args, const Context& context) {
  const SubtractFromArgs flat = FlatPair(args);
  return Launch("SubtractFrom", SubtractKernel, ShapeFor(context, flat.y, 1), context, Rows<const float>(flat.x),
                Rows<float>(flat.y), flat.y.rows, flat.y.columns);
}

absl::Status Combine(const CombineArgs& args, const Context& context) {
  const CombineArgs flat = FlatPair(args);
  if (flat.y.dtype == DType::kFloat64) {
    return Launch("Combine", WideCombineKernel, ShapeFor(context, flat.y, 1), context, Rows<const double>(flat.x),
                  Rows<double>(flat.y), flat.y.rows, flat.y.columns, flat.x_factor, flat.y_factor);
  }
  constexpr int kWidth = kPackWidth<float>;
  return Packs(flat.x, kWidth) && Packs(flat.y, kWidth) ? CombinePacks<kWidth>(flat, context)
                                                        : CombinePacks<1>(flat, context);
}

absl::Status Normalise(const NormaliseArgs& args, const Context& context) {
  const Tensor x = Flat(args.x);
  // Partial sums lie before it.
  const Tensor squares(static_cast<double*>(context.scratch) + kSumBlocks, DType::kFloat64, 1, 1);
  ISTHMUS_RETURN_IF_ERROR(SetZero({.x = squares}, context));
  ISTHMUS_RETURN_IF_ERROR((SumInto<float, Summand::kSquare>({.x = x, .y = x, .total = squares}, context)));
  constexpr int kWidth = kPackWidth<float>;
  return Packs(x, kWidth) ? Launch("Normalise", NormaliseKernel<kWidth>, ShapeFor(context, x, kWidth), context,
                                   Rows<float>(x), x.rows, x.columns, squares.As<const double>(), args.epsilon)
                          : Launch("Normalise", NormaliseKernel<1>, ShapeFor(context, x, 1), context, Rows<float>(x),
                                   x.rows, x.columns, squares.As<const double>(), args.epsilon);
}

absl::Status ScaleToNorm(const ScaleToNormArgs& args, const Context& context) {
  const Tensor x = Flat(args.x);
  return VisitElements(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    constexpr int kWidth = kPackWidth<T>;
    const auto scale = [&](auto kernel, int width) {
      return Launch("ScaleToNorm", kernel, ShapeFor(context, x, width), context, Rows<T>(x), x.rows, x.columns,
                    args.squares.As<const double>());
    };
    return Packs(x, kWidth) ? scale(ScaleToNormKernel<T, kWidth>, kWidth) : scale(ScaleToNormKernel<T, 1>, 1);
  });
}

absl::Status Cast(const CastArgs& args, const Context& context) {
  if (args.x.dtype == args.y.dtype) {
    const Extent in = ExtentOf(args.x), out = ExtentOf(args.y);
    if (args.x.contiguous() && args.y.contiguous()) {
      return Check(
          cudaMemcpyAsync(args.y.data, args.x.data, in.width * in.height, cudaMemcpyDeviceToDevice, context.stream),
          "Cast");
    }
    return Check(cudaMemcpy2DAsync(args.y.data, out.pitch, args.x.data, in.pitch, in.width, in.height,
                                   cudaMemcpyDeviceToDevice, context.stream),
                 "Cast");
  }
  const auto [x, y] = FlatPair(args);
  if (x.dtype == DType::kFloat32 && y.dtype == DType::kBFloat16) return CastBetween<float, BFloat16>(x, y, context);
  if (x.dtype == DType::kBFloat16 && y.dtype == DType::kFloat32) return CastBetween<BFloat16, float>(x, y, context);
  if (x.dtype == DType::kFloat32 && y.dtype == DType::kFloat64) return WideCast<float, double>(x, y, context);
  if (x.dtype == DType::kBFloat16 && y.dtype == DType::kFloat64) return WideCast<BFloat16, double>(x, y, context);
  if (x.dtype == DType::kFloat64 && y.dtype == DType::kFloat32) return WideCast<double, float>(x, y, context);
  return absl::UnimplementedError(
      absl::StrCat("Cast: from ", x.Describe(), " to ", y.Describe(), "; GPUs don't convert fp64 to bf16"));
}

absl::Status SetZero(const SetZeroArgs& args, const Context& context) {
  const Extent extent = ExtentOf(args.x);
  if (args.x.contiguous()) {
    return Check(cudaMemsetAsync(args.x.data, 0, extent.width * extent.height, context.stream), "SetZero");
  }
  return Check(cudaMemset2DAsync(args.x.data, extent.pitch, 0, extent.width, extent.height, context.stream), "SetZero");
}

absl::Status AddSum(const AddSumArgs& args, const Context& context) {
  return SumOfAny<Summand::kValue>({.x = args.x, .y = args.x, .total = args.total}, context);
}

absl::Status AddSumOfSquares(const AddSumOfSquaresArgs& args, const Context& context) {
  return SumOfAny<Summand::kSquare>({.x = args.x, .y = args.x, .total = args.total}, context);
}

absl::Status AddDot(const AddDotArgs& args, const Context& context) {
  return SumOfAny<Summand::kProduct>(args, context);
}

}  // namespace isthmus::cuda
