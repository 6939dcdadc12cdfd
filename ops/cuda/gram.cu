#include <algorithm>

#include "ops/cuda/launch.cuh"
#include "ops/cuda/numeric.cuh"
#include "ops/gram.h"
#include "ops/matmul.h"
#include "runtime/status.h"

namespace isthmus::cuda {
namespace {

constexpr int kThreads = 256;

// Computes y += x in a grid-stride loop.
__global__ void __launch_bounds__(kThreads)
    AddWidenedKernel(Rows<const float> x, Rows<double> y, int64_t rows, int64_t columns) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < rows * columns; i += stride) {
    const int64_t row = i / columns, column = i % columns;
    y[row][column] += static_cast<double>(x[row][column]);
  }
}

}  // namespace

absl::Status Gram(const GramArgs& args, const Context& context) {
  if (args.x.dtype == DType::kFloat64) {
    return Matmul({.a = args.x, .b = args.y, .c = args.c, .transpose_a = true, .accumulate = true}, context);
  }
  // Number of rows whose product is formed in fp32 before it is added in fp64.
  constexpr int64_t kRowBlock = 8192;
  const LaunchShape shape = {dim3(StridingBlocks(context, args.c.size(), kThreads)), dim3(kThreads)};
  for (int64_t begin = 0; begin < args.x.rows; begin += kRowBlock) {
    const int64_t count = std::min(kRowBlock, args.x.rows - begin);
    ISTHMUS_RETURN_IF_ERROR(Matmul({.a = args.x.RowSlice(begin, count),
                                    .b = args.y.RowSlice(begin, count),
                                    .c = args.workspace,
                                    .transpose_a = true},
                                   context));
    ISTHMUS_RETURN_IF_ERROR(Launch("Gram", AddWidenedKernel, shape, context, Rows<const float>(args.workspace),
                                   Rows<double>(args.c), args.c.rows, args.c.columns));
  }
  return absl::OkStatus();
}

}  // namespace isthmus::cuda
