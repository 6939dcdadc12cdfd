#include "ops/gram.h"

#include <algorithm>

#include "ops/cpu/kernels.h"
#include "runtime/parallel_for.h"
#include "runtime/status.h"

namespace isthmus::cpu {
namespace {

// Rows whose product is formed in fp32 before it is added in fp64.
constexpr int64_t kRowBlock = 1024;

void AddWidened(const Tensor& block, const Tensor& c) {
  ParallelFor(c.rows, 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const float* from = block.Row<float>(row);
      double* to = c.Row<double>(row);
      for (int64_t column = 0; column < c.columns; ++column) to[column] += from[column];
    }
  });
}

}  // namespace

absl::Status Gram(const GramArgs& args) {
  if (args.x.dtype == DType::kFloat64) {
    return Matmul({.a = args.x, .b = args.y, .c = args.c, .transpose_a = true, .accumulate = true});
  }
  for (int64_t begin = 0; begin < args.x.rows; begin += kRowBlock) {
    const int64_t count = std::min(kRowBlock, args.x.rows - begin);
    ISTHMUS_RETURN_IF_ERROR(Matmul({.a = args.x.RowSlice(begin, count),
                                    .b = args.y.RowSlice(begin, count),
                                    .c = args.workspace,
                                    .transpose_a = true}));
    AddWidened(args.workspace, args.c);
  }
  return absl::OkStatus();
}

}  // namespace isthmus::cpu
