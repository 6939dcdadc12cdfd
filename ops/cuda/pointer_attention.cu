// Attention that points at tokens, by the tiles of ops/cuda/attention_tiles.cuh with an online softmax. Nothing is
// summed over positions in the forward pass but the masses. Gradients of keys are made by blocks that own keys.
#include "ops/cuda/attention_tiles.cuh"
#include "ops/cuda/dynamic_shared.cuh"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/numeric.cuh"
#include "ops/cuda/reduce.cuh"
#include "ops/pointer_attention.h"
#include "runtime/status.h"

namespace isthmus::cuda {
namespace {

constexpr int kSinkThreads = 256;

// The vectors with one element for each token.
struct PointerTokens {
  const int32_t *ids, *targets;
  const float *log_sum_exp, *log_match, *grad_log_match, *grad_log_sink;

  // The scores of query n have this in common.
  struct Query {
    float log_sum_exp, log_match, of_match, of_all;
    int target;
    // The gradient by the score of a position with the token `id`.
    __device__ __forceinline__ float OfScore(float score, int id) const {
      const float gradient = of_all * expf(score - log_sum_exp);
      return id == target && of_match != 0 ? gradient + of_match * expf(score - log_sum_exp - log_match) : gradient;
    }
  };
  __device__ __forceinline__ Query At(int64_t n) const {
    Query query;
    query.log_sum_exp = log_sum_exp[n];
    query.log_match = log_match[n];
    query.of_match = query.log_match == -INFINITY ? 0.0F : grad_log_match[n];
    query.of_all = -(query.of_match + grad_log_sink[n]);
    query.target = targets[n];
    return query;
  }
};

// A block owns queries and meets keys.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    PointerForwardKernel(HeadRows<const T> q, HeadRows<const T> k, const T* sink, PointerTokens tokens,
                         float* log_sum_exp, float* log_match, Sizes sizes) {
  const Place at;
  auto* queries = DynamicShared<float>();
  float* keys = queries + kOwnRows * sizes.head_dim;
  LoadRows(q, sizes, at.sequence, 0, at.block_first, kOwnRows, queries, sizes.head_dim);
  const float* own = queries + at.warp * kRowsPerWarp * sizes.head_dim;
  const int64_t first_token = int64_t{at.sequence} * sizes.sequence_length;

  float maximum[kRowsPerWarp], sum[kRowsPerWarp], match[kRowsPerWarp];
  int target[kRowsPerWarp];
#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) {
    // The sink is the first position.
    maximum[r] = Widen(*sink);
    sum[r] = 1;
    match[r] = 0;
    target[r] = tokens.targets[first_token + min(at.first + r, sizes.sequence_length - 1)];
  }
  const int end = min(at.block_first + kOwnRows, sizes.sequence_length);
  for (int tile = 0; tile < end; tile += kTileRows) {
    __syncthreads();
    LoadRows(k, sizes, at.sequence, 0, tile, kTileRows, keys, sizes.padded());
    __syncthreads();
    const int id = tokens.ids[first_token + min(tile + at.lane, sizes.sequence_length - 1)];
    float scores[kRowsPerWarp];
    Products(own, keys, sizes, scores);
#pragma unroll
    for (int r = 0; r < kRowsPerWarp; ++r) {
      const bool seen = tile + at.lane <= min(at.first + r, sizes.sequence_length - 1);
      const float score = seen ? scores[r] * sizes.scale : -INFINITY;
      const float raised = fmaxf(maximum[r], WarpReduce(score, MaximumOf()));
      const float factor = expf(maximum[r] - raised), weight = expf(score - raised);
      sum[r] = sum[r] * factor + WarpReduce(weight, SumOf());
      match[r] = match[r] * factor + WarpReduce(id == target[r] ? weight : 0.0F, SumOf());
      maximum[r] = raised;
    }
  }
#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) {
    if (at.lane != 0 || at.first + r >= sizes.sequence_length) continue;
    log_sum_exp[first_token + at.first + r] = maximum[r] + logf(sum[r]);
    log_match[first_token + at.first + r] = logf(match[r]) - logf(sum[r]);
  }
}

// A block owns queries and meets keys.
template <typename T, int kParts>
__global__ void __launch_bounds__(kThreads)
    PointerGradQueryKernel(HeadRows<const T> q, HeadRows<const T> k, PointerTokens tokens, HeadRows<T> grad_q,
                           Sizes sizes) {
  const Place at;
  auto* queries = DynamicShared<float>();
  float* keys = queries + kOwnRows * sizes.head_dim;
  LoadRows(q, sizes, at.sequence, 0, at.block_first, kOwnRows, queries, sizes.head_dim);
  const float* own = queries + at.warp * kRowsPerWarp * sizes.head_dim;
  const int64_t first_token = int64_t{at.sequence} * sizes.sequence_length;

  PointerTokens::Query query[kRowsPerWarp];
  float result[kRowsPerWarp][kParts] = {}, factors[kRowsPerWarp];
#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) {
    query[r] = tokens.At(first_token + min(at.first + r, sizes.sequence_length - 1));
    factors[r] = sizes.scale;
  }
  const int end = min(at.block_first + kOwnRows, sizes.sequence_length);
  for (int tile = 0; tile < end; tile += kTileRows) {
    __syncthreads();
    LoadRows(k, sizes, at.sequence, 0, tile, kTileRows, keys, sizes.padded());
    __syncthreads();
    const int id = tokens.ids[first_token + min(tile + at.lane, sizes.sequence_length - 1)];
    float scores[kRowsPerWarp], slopes[kRowsPerWarp];
    Products(own, keys, sizes, scores);
#pragma unroll
    for (int r = 0; r < kRowsPerWarp; ++r) {
      const bool seen = tile + at.lane <= min(at.first + r, sizes.sequence_length - 1);
      slopes[r] = seen ? query[r].OfScore(scores[r] * sizes.scale, id) : 0.0F;
    }
    AddWeightedRows(slopes, keys, sizes, result);
  }
  StoreRows(result, factors, grad_q, sizes, at.sequence, 0, at.first);
}

// A block owns keys and meets the queries that see them.
template <typename T, int kParts>
__global__ void __launch_bounds__(kThreads)
    PointerGradKeyKernel(HeadRows<const T> q, HeadRows<const T> k, PointerTokens tokens, HeadRows<T> grad_k,
                         Sizes sizes) {
  const Place at;
  auto* keys = DynamicShared<float>();
  float* queries = keys + kOwnRows * sizes.head_dim;
  LoadRows(k, sizes, at.sequence, 0, at.block_first, kOwnRows, keys, sizes.head_dim);
  const float* own = keys + at.warp * kRowsPerWarp * sizes.head_dim;
  const int64_t first_token = int64_t{at.sequence} * sizes.sequence_length;

  int id[kRowsPerWarp];
  float result[kRowsPerWarp][kParts] = {}, factors[kRowsPerWarp];
#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) {
    id[r] = tokens.ids[first_token + min(at.first + r, sizes.sequence_length - 1)];
    factors[r] = sizes.scale;
  }
  for (int tile = at.block_first / kTileRows * kTileRows; tile < sizes.sequence_length; tile += kTileRows) {
    __syncthreads();
    LoadRows(q, sizes, at.sequence, 0, tile, kTileRows, queries, sizes.padded());
    __syncthreads();
    const int t = tile + at.lane;
    const PointerTokens::Query query = tokens.At(first_token + min(t, sizes.sequence_length - 1));
    float slopes[kRowsPerWarp];
    Products(own, queries, sizes, slopes);
#pragma unroll
    for (int r = 0; r < kRowsPerWarp; ++r) {
      const bool seen = at.first + r <= t && t < sizes.sequence_length;
      slopes[r] = seen ? query.OfScore(slopes[r] * sizes.scale, id[r]) : 0.0F;
    }
    AddWeightedRows(slopes, queries, sizes, result);
  }
  StoreRows(result, factors, grad_k, sizes, at.sequence, 0, at.first);
}

// One block adds all tokens, each thread its own ones in their order.
template <typename T>
__global__ void __launch_bounds__(kSinkThreads)
    PointerGradSinkKernel(const T* sink, PointerTokens tokens, int64_t count, float* grad_sink) {
  const double score = Widen(*sink);
  double sum = 0;
  for (int64_t n = threadIdx.x; n < count; n += kSinkThreads) {
    const PointerTokens::Query query = tokens.At(n);
    sum += static_cast<double>(tokens.grad_log_sink[n]) +
           static_cast<double>(query.of_all) * exp(score - static_cast<double>(query.log_sum_exp));
  }
  sum = BlockSum(sum);
  if (threadIdx.x == 0) *grad_sink += static_cast<float>(sum);
}

AttentionShape ShapeOf(const ConstTensor& q, int64_t sequence_length) {
  return {.sequences = q.rows / sequence_length,
          .sequence_length = sequence_length,
          .heads = 1,
          .kv_heads = 1,
          .head_dim = q.columns};
}

template <typename T>
absl::Status Forward(const PointerAttentionForwardArgs& args, const Context& context) {
  const AttentionShape shape = ShapeOf(args.q, args.sequence_length);
  PointerTokens tokens{};
  tokens.ids = args.ids.As<const int32_t>();
  tokens.targets = args.targets.As<const int32_t>();
  return Launch("PointerAttentionForward", PointerForwardKernel<T>, ShapeFor(shape, 1, 1, 1), context,
                HeadRowsOf<const T>(args.q), HeadRowsOf<const T>(args.k), args.sink.As<const T>(), tokens,
                args.log_sum_exp.As<float>(), args.log_match.As<float>(), SizesOf(shape, args.scale));
}

template <typename T, int kParts>
absl::Status Backward(const PointerAttentionBackwardArgs& args, const Context& context) {
  constexpr char kOp[] = "PointerAttentionBackward";
  const AttentionShape shape = ShapeOf(args.q, args.sequence_length);
  const Sizes sizes = SizesOf(shape, args.scale);
  const LaunchShape of_rows = ShapeFor(shape, 1, 1, 1);
  const PointerTokens tokens = {args.ids.As<const int32_t>(),          args.targets.As<const int32_t>(),
                                args.log_sum_exp.As<const float>(),    args.log_match.As<const float>(),
                                args.grad_log_match.As<const float>(), args.grad_log_sink.As<const float>()};
  const auto q = HeadRowsOf<const T>(args.q), k = HeadRowsOf<const T>(args.k);
  ISTHMUS_RETURN_IF_ERROR(Launch(kOp, PointerGradQueryKernel<T, kParts>, of_rows, context, q, k, tokens,
                                 HeadRowsOf<T>(args.grad_q), sizes));
  ISTHMUS_RETURN_IF_ERROR(
      Launch(kOp, PointerGradKeyKernel<T, kParts>, of_rows, context, q, k, tokens, HeadRowsOf<T>(args.grad_k), sizes));
  return Launch(kOp, PointerGradSinkKernel<T>, {dim3(1), dim3(kSinkThreads)}, context, args.sink.As<const T>(), tokens,
                args.q.rows, args.grad_sink.As<float>());
}

}  // namespace

absl::Status PointerAttentionForward(const PointerAttentionForwardArgs& args, const Context& context) {
  return Specialise(args.q.dtype, args.q.columns,
                    [&](auto zero, auto /*parts*/) { return Forward<decltype(zero)>(args, context); });
}

absl::Status PointerAttentionBackward(const PointerAttentionBackwardArgs& args, const Context& context) {
  return Specialise(args.q.dtype, args.q.columns, [&](auto zero, auto parts) {
    return Backward<decltype(zero), decltype(parts)::value>(args, context);
  });
}

}  // namespace isthmus::cuda
