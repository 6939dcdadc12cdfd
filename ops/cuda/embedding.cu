#include "ops/cuda/launch.cuh"
#include "ops/cuda/numeric.cuh"
#include "ops/cuda/reduce.cuh"
#include "ops/embedding.h"
#include "runtime/status.h"

namespace isthmus::cuda {
namespace {

constexpr int kThreads = 256;

// One block handles one token.
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

// One warp handles token n. next[n] is the following token with the same id, or `tokens`; seen[next[n]] becomes 1.
// `seen` is zero before, and each of its elements has one writer.
__global__ void __launch_bounds__(kThreads)
    LinkTokensKernel(const int32_t* ids, int tokens, int32_t* next, int32_t* seen) {
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
  if (lane != 0) return;
  next[n] = following;
  if (following < tokens) seen[following] = 1;
}

// Block (n, part) works if token n is the first with its id and the id is this shard's. It adds the rows of all tokens
// with that id to the table, in their order.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    AddTokenRowsKernel(const int32_t* ids, const int32_t* next, const int32_t* seen, int tokens, Rows<const T> grad_y,
                       int64_t first_row, int64_t table_rows, Rows<float> grad_table, int columns) {
  const int start = static_cast<int>(blockIdx.x);
  const int64_t row = ids[start] - first_row;
  if (seen[start] != 0 || row < 0 || row >= table_rows) return;
  const int c = (static_cast<int>(blockIdx.y) * kThreads + static_cast<int>(threadIdx.x)) * kWidth;
  if (c >= columns) return;
  float* to = grad_table[row] + c;
  float sum[kWidth];
  LoadPack<kWidth>(static_cast<const float*>(to), sum);
  // Rows of several tokens are loaded at once; otherwise each would wait for the one before.
  constexpr int kAhead = 4;
  for (int n = start; n < tokens;) {
    float grad[kAhead][kWidth] = {};
    bool there[kAhead] = {};
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      there[k] = n < tokens;
      if (!there[k]) continue;
      LoadPack<kWidth>(grad_y[n] + c, grad[k]);
      n = next[n];
    }
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      if (!there[k]) continue;
#pragma unroll
      for (int i = 0; i < kWidth; ++i) sum[i] += grad[k][i];
    }
  }
  StorePack<kWidth>(sum, to);
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
                args.first_row, args.grad_table.rows, Rows<float>(args.grad_table), static_cast<int>(columns));
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
  int32_t* seen = next + tokens;
  ISTHMUS_RETURN_IF_ERROR(Check(cudaMemsetAsync(seen, 0, static_cast<size_t>(tokens) * sizeof(int32_t), context.stream),
                                "EmbeddingBackward"));
  ISTHMUS_RETURN_IF_ERROR(Launch("EmbeddingBackward", LinkTokensKernel,
                                 {dim3(BlocksFor(tokens, kThreads / kWarp)), dim3(kThreads)}, context,
                                 args.ids.As<const int32_t>(), static_cast<int>(tokens), next, seen));
  return VisitElements(args.grad_y.dtype, [&](auto zero) {
    using T = decltype(zero);
    // A pack is 16 bytes of the fp32 sums, so that neighbouring threads leave no gaps.
    constexpr int kWidth = kPackWidth<float>;
    return Packs(args.grad_y, kWidth) && Packs(args.grad_table, kWidth) ? AddTokenRows<T, kWidth>(args, context)
                                                                        : AddTokenRows<T, 1>(args, context);
  });
}

}  // namespace isthmus::cuda
