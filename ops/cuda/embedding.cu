#include "ops/cuda/kernels.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/numeric.cuh"
#include "ops/cuda/reduce.cuh"
#include "ops/embedding.h"
#include "runtime/status.h"

namespace isthmus::cuda {
namespace {

constexpr int kThreads = 256;

// One block per token.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    EmbeddingForwardKernel(const int32_t* ids, Rows<const T> table, int64_t table_rows, int64_t first_row, Rows<T> y,
                           int columns) {
  const int64_t n = blockIdx.x, row = ids[n] - first_row;
  const bool ours = row >= 0 && row < table_rows;
  for (int c = static_cast<int>(threadIdx.x) * kWidth; c < columns; c += kThreads * kWidth) {
    float value[kWidth] = {};
    if (ours) LoadPack<kWidth>(table[row] + c, value);
    StorePack<kWidth>(value, y[n] + c);
  }
}

// One warp per token n: next[n] is the following token with the same id, or `tokens`; first[n] says whether there is
// none before. Tokens of other shards are not first.
__global__ void __launch_bounds__(kThreads) LinkTokensKernel(const int32_t* ids, int tokens, int64_t first_row,
                                                             int64_t table_rows, int32_t* next, int32_t* first) {
  const int n = static_cast<int>((int64_t{blockIdx.x} * kThreads + threadIdx.x) / kWarp);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  if (n >= tokens) return;
  const int32_t id = ids[n];
  // The first of 32 neighbours that matches ends the search; all lanes take the same turns.
  int following = tokens;
  for (int begin = n + 1; begin < tokens && following == tokens; begin += kWarp) {
    const int other = begin + lane;
    const unsigned match = __ballot_sync(0xffffffffu, other < tokens && ids[other] == id);
    if (match != 0) following = begin + __ffs(static_cast<int>(match)) - 1;
  }
  bool seen = id < first_row || id >= first_row + table_rows;
  for (int end = n; end > 0 && !seen; end -= kWarp) {
    const int other = end - 1 - lane;
    seen = __ballot_sync(0xffffffffu, other >= 0 && ids[other] == id) != 0;
  }
  if (lane == 0) {
    next[n] = following;
    first[n] = seen ? 0 : 1;
  }
}

// Block (n, part): where token n is the first with its id, adds the rows of all its kind to the table, in their order.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    AddTokenRowsKernel(const int32_t* ids, const int32_t* next, const int32_t* first, int tokens, Rows<const T> grad_y,
                       int64_t first_row, Rows<float> grad_table, int columns) {
  const int start = static_cast<int>(blockIdx.x);
  if (first[start] == 0) return;
  const int c = (static_cast<int>(blockIdx.y) * kThreads + static_cast<int>(threadIdx.x)) * kWidth;
  if (c >= columns) return;
  float* to = grad_table[ids[start] - first_row] + c;
  float sum[kWidth];
#pragma unroll
  for (int i = 0; i < kWidth; ++i) sum[i] = to[i];
  for (int n = start; n < tokens; n = next[n]) {
    float grad[kWidth];
    LoadPack<kWidth>(grad_y[n] + c, grad);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sum[i] += grad[i];
  }
#pragma unroll
  for (int i = 0; i < kWidth; ++i) to[i] = sum[i];
}

template <typename T, int kWidth>
absl::Status Forward(const EmbeddingForwardArgs& args, const Context& context) {
  return Launch("EmbeddingForward", EmbeddingForwardKernel<T, kWidth>,
                {dim3(static_cast<unsigned>(args.y.rows)), dim3(kThreads)}, context, args.ids.As<const int32_t>(),
                Rows<const T>(args.table), args.table.rows, args.first_row, Rows<T>(args.y),
                static_cast<int>(args.y.columns));
}

template <typename T, int kWidth>
absl::Status AddTokenRows(const EmbeddingBackwardArgs& args, const Context& context) {
  const int64_t tokens = args.grad_y.rows, columns = args.grad_y.columns;
  const int32_t* next = args.workspace.As<const int32_t>();
  return Launch("EmbeddingBackward", AddTokenRowsKernel<T, kWidth>,
                {dim3(static_cast<unsigned>(tokens), BlocksFor(columns, kThreads * kWidth)), dim3(kThreads)}, context,
                args.ids.As<const int32_t>(), next, next + tokens, static_cast<int>(tokens), Rows<const T>(args.grad_y),
                args.first_row, Rows<float>(args.grad_table), static_cast<int>(columns));
}

}  // namespace

absl::Status EmbeddingForward(const EmbeddingForwardArgs& args, const Context& context) {
  return VisitElements(args.y.dtype, [&](auto zero) {
    using T = decltype(zero);
    constexpr int kWidth = kPackWidth<T>;
    const bool packs = Packs(args.y, kWidth) && Packs(args.table, kWidth);
    return packs ? Forward<T, kWidth>(args, context) : Forward<T, 1>(args, context);
  });
}

absl::Status EmbeddingBackward(const EmbeddingBackwardArgs& args, const Context& context) {
  const int64_t tokens = args.grad_y.rows;
  int32_t* next = args.workspace.As<int32_t>();
  ISTHMUS_RETURN_IF_ERROR(Launch("EmbeddingBackward", LinkTokensKernel,
                                 {dim3(BlocksFor(tokens, kThreads / kWarp)), dim3(kThreads)}, context,
                                 args.ids.As<const int32_t>(), static_cast<int>(tokens), args.first_row,
                                 args.grad_table.rows, next, next + tokens));
  return VisitElements(args.grad_y.dtype, [&](auto zero) {
    using T = decltype(zero);
    constexpr int kWidth = kPackWidth<T>;
    return Packs(args.grad_y, kWidth) ? AddTokenRows<T, kWidth>(args, context) : AddTokenRows<T, 1>(args, context);
  });
}

}  // namespace isthmus::cuda
