#include <algorithm>
#include <cmath>

#include "ops/cuda/launch.cuh"
#include "ops/cuda/numeric.cuh"
#include "ops/cuda/reduce.cuh"
#include "ops/reductions.h"
#include "runtime/cuda/context.h"
#include "runtime/status.h"

namespace isthmus::cuda {
namespace {

constexpr int kThreads = 256;
// Threads of a block in kernels that give a thread to each column. They are few, so that narrow matrices too fill
// several multiprocessors.
constexpr int kColumnThreads = 64;
// Rows that one thread sums. They are few, so that narrow matrices have enough threads to keep memory busy.
constexpr int64_t kPartRows = 128;

// One block handles one row.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    RowDotsKernel(Rows<const T> x, Rows<const T> y, int64_t columns, double* dots) {
  const int64_t row = blockIdx.x;
  double sum = 0;
  for (int64_t c = threadIdx.x; c < columns; c += kThreads) {
    sum += Exactly(x[row][c]) * Exactly(y[row][c]);
  }
  sum = BlockSum(sum);
  if (threadIdx.x == 0) dots[row] = sum;
}

// Kernels sum this term of each element. The roots of `squares` divide the rows of kUnitRow.
enum class ColumnTerm { kValue, kSquare, kUnitRow };

// One thread handles a column of a part of the rows, so that neighbours read neighbouring elements.
template <typename T, ColumnTerm kTerm>
__global__ void __launch_bounds__(kColumnThreads)
    SumColumnsKernel(Rows<const T> x, int64_t rows, int64_t columns, const double* squares, double* sums) {
  const int64_t c = int64_t{blockIdx.x} * kColumnThreads + threadIdx.x;
  if (c >= columns) return;
  const int64_t begin = int64_t{blockIdx.y} * kPartRows, end = min(begin + kPartRows, rows);
  double sum = 0;
#pragma unroll 8
  for (int64_t row = begin; row < end; ++row) {
    const double value = Exactly(x[row][c]);
    if constexpr (kTerm == ColumnTerm::kValue) {
      sum += value;
    } else if constexpr (kTerm == ColumnTerm::kSquare) {
      sum += value * value;
    } else if (squares[row] != 0) {
      sum += value / sqrt(squares[row]);
    }
  }
  sums[blockIdx.y * columns + c] = sum;
}

__global__ void __launch_bounds__(kColumnThreads)
    AddPartsKernel(const double* sums, int64_t parts, int64_t columns, double* total) {
  const int64_t c = int64_t{blockIdx.x} * kColumnThreads + threadIdx.x;
  if (c >= columns) return;
  double sum = 0;
#pragma unroll 4
  for (int64_t part = 0; part < parts; ++part) sum += sums[part * columns + c];
  total[c] += sum;
}

// Only kUnitRow reads `squares`.
template <ColumnTerm kTerm>
absl::Status AddColumns(const ConstTensor& x, const double* squares, const Tensor& total, const Context& context) {
  if (x.size() == 0) return absl::OkStatus();
  // A pass takes as many rows as there is room for the sums of their parts, and a grid for them.
  const int64_t room = Context::kScratchBytes / (x.columns * SizeOf(DType::kFloat64));
  const int64_t most = std::clamp<int64_t>(room, 1, 65535) * kPartRows;
  auto* sums = static_cast<double*>(context.scratch);
  const unsigned blocks = BlocksFor(x.columns, kColumnThreads);
  for (int64_t begin = 0; begin < x.rows; begin += most) {
    const ConstTensor rows = x.RowSlice(begin, std::min(most, x.rows - begin));
    const int64_t parts = (rows.rows + kPartRows - 1) / kPartRows;
    ISTHMUS_RETURN_IF_ERROR(VisitNumbers(x.dtype, [&](auto zero) {
      using T = decltype(zero);
      return Launch("AddColumns", SumColumnsKernel<T, kTerm>,
                    {dim3(blocks, static_cast<unsigned>(parts)), dim3(kColumnThreads)}, context, Rows<const T>(rows),
                    rows.rows, rows.columns, squares == nullptr ? nullptr : squares + begin, sums);
    }));
    ISTHMUS_RETURN_IF_ERROR(Launch("AddColumns", AddPartsKernel, {dim3(blocks), dim3(kColumnThreads)}, context,
                                   static_cast<const double*>(sums), parts, rows.columns, total.As<double>()));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status RowDots(const RowDotsArgs& args, const Context& context) {
  return VisitNumbers(args.x.dtype, [&](auto zero) {
    using T = decltype(zero);
    return Launch("RowDots", RowDotsKernel<T>, {dim3(static_cast<unsigned>(args.x.rows)), dim3(kThreads)}, context,
                  Rows<const T>(args.x), Rows<const T>(args.y), args.x.columns, args.dots.As<double>());
  });
}

absl::Status AddColumnSums(const AddColumnSumsArgs& args, const Context& context) {
  return AddColumns<ColumnTerm::kValue>(args.x, nullptr, args.total, context);
}

absl::Status AddColumnSquares(const AddColumnSquaresArgs& args, const Context& context) {
  return AddColumns<ColumnTerm::kSquare>(args.x, nullptr, args.total, context);
}

absl::Status AddUnitRows(const AddUnitRowsArgs& args, const Context& context) {
  return AddColumns<ColumnTerm::kUnitRow>(args.x, args.squares.As<double>(), args.total, context);
}

}  // namespace isthmus::cuda
