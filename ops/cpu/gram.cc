#include "ops/gram.h"

#include <algorithm>

#include "ops/matmul.h"
#include "runtime/parallel_for.h"
#include "runtime/status.h"

namespace isthmus::cpu {
namespace {

// Number of rows whose product is formed in fp32 before it is added in fp64.
constexpr int64_t kRowBlock = 4096;
// A symmetric product forms this many columns at once, from the diagonal on. That leaves two thirds of the work for 768
// columns, and half for many. Products smaller than these tiles run at a lower rate.
constexpr int64_t kColumnTile = 256, kSymmetricColumns = 512;

void AddWidened(const ConstTensor& block, const Tensor& c) {
  ParallelFor(c.rows, 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const float* from = block.Row<float>(row);
      double* to = c.Row<double>(row);
      for (int64_t column = 0; column < c.columns; ++column) to[column] += from[column];
    }
  });
}

Tensor Block(const Tensor& matrix, int64_t row, int64_t rows, int64_t column, int64_t columns) {
  return matrix.RowSlice(row, rows).ColumnSlice(column, columns);
}

// Computes c += xᵀ x above the diagonal, and in the blocks on it.
absl::Status AddUpperHalf(const ConstTensor& x, const Tensor& c, const Tensor& workspace) {
  for (int64_t tile = 0; tile < x.columns; tile += kColumnTile) {
    const int64_t rows = std::min(kColumnTile, x.columns - tile), columns = x.columns - tile;
    const Tensor product = Block(workspace, tile, rows, tile, columns);
    ISTHMUS_RETURN_IF_ERROR(
        Matmul({.a = x.ColumnSlice(tile, rows), .b = x.ColumnSlice(tile, columns), .c = product, .transpose_a = true}));
    AddWidened(product, Block(c, tile, rows, tile, columns));
  }
  return absl::OkStatus();
}

void MirrorUpperHalf(const Tensor& c) {
  ParallelFor(c.rows, 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      double* to = c.Row<double>(row);
      for (int64_t column = 0; column < row / kColumnTile * kColumnTile; ++column)
        to[column] = c.Row<double>(column)[row];
    }
  });
}

}  // namespace

absl::Status Gram(const GramArgs& args) {
  if (args.x.dtype == DType::kFloat64) {
    return Matmul({.a = args.x, .b = args.y, .c = args.c, .transpose_a = true, .accumulate = true});
  }
  const bool symmetric = args.x.data == args.y.data && args.x.row_stride == args.y.row_stride &&
                         args.x.columns == args.y.columns && args.x.columns >= kSymmetricColumns;
  for (int64_t begin = 0; begin < args.x.rows; begin += kRowBlock) {
    const int64_t count = std::min(kRowBlock, args.x.rows - begin);
    if (symmetric) {
      ISTHMUS_RETURN_IF_ERROR(AddUpperHalf(args.x.RowSlice(begin, count), args.c, args.workspace));
      continue;
    }
    ISTHMUS_RETURN_IF_ERROR(Matmul({.a = args.x.RowSlice(begin, count),
                                    .b = args.y.RowSlice(begin, count),
                                    .c = args.workspace,
                                    .transpose_a = true}));
    AddWidened(args.workspace, args.c);
  }
  if (symmetric) MirrorUpperHalf(args.c);
  return absl::OkStatus();
}

}  // namespace isthmus::cpu
