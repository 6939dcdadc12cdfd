#include <cmath>

#include "ops/cuda/kernels.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/numeric.cuh"
#include "ops/cuda/reduce.cuh"
#include "ops/reductions.h"

namespace isthmus::cuda {
namespace {

constexpr int kThreads = 256;
// Of kernels with a thread to each column: few to a block, so that narrow matrices too fill several multiprocessors.
constexpr int kColumnThreads = 64;

// One block per row.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    RowDotsKernel(Rows<const T> x, Rows<const T> y, int64_t columns, double* dots) {
  const int64_t row = blockIdx.x;
  double sum = 0;
  for (int64_t c = threadIdx.x; c < columns; c += kThreads) {
    sum += static_cast<double>(Widen(x[row][c])) * static_cast<double>(Widen(y[row][c]));
  }
  sum = BlockSum(sum);
  if (threadIdx.x == 0) dots[row] = sum;
}

// One thread per column: neighbours read neighbouring elements. With `squares` the rows are divided by their roots,
// else the elements are squared.
template <typename T>
__global__ void __launch_bounds__(kColumnThreads)
    AddColumnsKernel(Rows<const T> x, int64_t rows, int64_t columns, const double* squares, double* total) {
  const int64_t c = int64_t{blockIdx.x} * kColumnThreads + threadIdx.x;
  if (c >= columns) return;
  double sum = 0;
#pragma unroll 8
  for (int64_t row = 0; row < rows; ++row) {
    const auto value = static_cast<double>(Widen(x[row][c]));
    if (squares == nullptr) {
      sum += value * value;
    } else if (squares[row] != 0) {
      sum += value / sqrt(squares[row]);
    }
  }
  total[c] += sum;
}

absl::Status AddColumns(const Tensor& x, const double* squares, const Tensor& total, const Context& context) {
  return VisitElements(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    return Launch("AddColumns", AddColumnsKernel<T>, {dim3(BlocksFor(x.columns, kColumnThreads)), dim3(kColumnThreads)},
                  context, Rows<const T>(x), x.rows, x.columns, squares, total.As<double>());
  });
}

}  // namespace

absl::Status RowDots(const RowDotsArgs& args, const Context& context) {
  return VisitElements(args.x.dtype, [&](auto zero) {
    using T = decltype(zero);
    return Launch("RowDots", RowDotsKernel<T>, {dim3(static_cast<unsigned>(args.x.rows)), dim3(kThreads)}, context,
                  Rows<const T>(args.x), Rows<const T>(args.y), args.x.columns, args.dots.As<double>());
  });
}

absl::Status AddColumnSquares(const AddColumnSquaresArgs& args, const Context& context) {
  return AddColumns(args.x, nullptr, args.total, context);
}

absl::Status AddUnitRows(const AddUnitRowsArgs& args, const Context& context) {
  return AddColumns(args.x, args.squares.As<double>(), args.total, context);
}

}  // namespace isthmus::cuda
