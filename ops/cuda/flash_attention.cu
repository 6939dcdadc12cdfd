// Causal attention block by block with an online softmax (Dao et al. 2022, arXiv:2205.14135, algorithms 1 and 4). A
// warp owns a few rows. Its lanes share first the columns of a score tile, then those of the head. There are no
// atomics: gradients of keys and values are made by blocks that own keys.
#include "ops/cuda/attention_tiles.cuh"
#include "ops/cuda/dynamic_shared.cuh"
#include "ops/cuda/flash_attention.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/numeric.cuh"
#include "ops/cuda/reduce.cuh"
#include "runtime/status.h"

namespace isthmus::cuda {
namespace {

// A block owns queries and meets keys.
template <typename T, int kParts>
__global__ void __launch_bounds__(kThreads)
    ForwardKernel(HeadRows<const T> q, HeadRows<const T> k, HeadRows<const T> v, HeadRows<T> out, float* log_sum_exp,
                  int64_t log_sum_exp_stride, Sizes sizes) {
  const Place at;
  const int kv_head = at.head * sizes.kv_heads / sizes.heads;
  auto* queries = DynamicShared<float>();
  float* keys = queries + kOwnRows * sizes.head_dim;
  float* values = keys + kTileRows * sizes.padded();
  LoadRows(q, sizes, at.sequence, at.head, at.block_first, kOwnRows, queries, sizes.head_dim);
  const float* own = queries + at.warp * kRowsPerWarp * sizes.head_dim;

  float maximum[kRowsPerWarp], sum[kRowsPerWarp], result[kRowsPerWarp][kParts] = {};
#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) {
    maximum[r] = -INFINITY;
    sum[r] = 0;
  }
  const int end = min(at.block_first + kOwnRows, sizes.sequence_length);
  for (int tile = 0; tile < end; tile += kTileRows) {
    __syncthreads();
    LoadRows(k, sizes, at.sequence, kv_head, tile, kTileRows, keys, sizes.padded());
    LoadRows(v, sizes, at.sequence, kv_head, tile, kTileRows, values, sizes.padded());
    __syncthreads();
    float weights[kRowsPerWarp];
    Products(own, keys, sizes, weights);
#pragma unroll
    for (int r = 0; r < kRowsPerWarp; ++r) {
      // Rows beyond the sequence see the last key, so that their sums stay finite; nobody stores them.
      const int last_key = min(at.first + r, sizes.sequence_length - 1);
      const float score = tile + at.lane <= last_key ? weights[r] * sizes.scale : -INFINITY;
      // The first tile holds key 0, which every query sees: the maximum is finite from then on.
      const float raised = fmaxf(maximum[r], WarpReduce(score, MaximumOf()));
      const float factor = expf(maximum[r] - raised);
      weights[r] = expf(score - raised);
      sum[r] = sum[r] * factor + WarpReduce(weights[r], SumOf());
      maximum[r] = raised;
#pragma unroll
      for (int part = 0; part < kParts; ++part) result[r][part] *= factor;
    }
    AddWeightedRows(weights, values, sizes, result);
  }
  float inverse[kRowsPerWarp];
#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) {
    inverse[r] = 1.0F / sum[r];
    if (at.lane == 0 && at.first + r < sizes.sequence_length) {
      log_sum_exp[at.sequence * log_sum_exp_stride + int64_t{at.head} * sizes.sequence_length + at.first + r] =
          maximum[r] + logf(sum[r]);
    }
  }
  StoreRows(result, inverse, out, sizes, at.sequence, at.head, at.first);
}

// Computes delta[b, h, t] = out · grad_out, with one warp per row and head.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    DeltaKernel(HeadRows<const T> out, HeadRows<const T> grad_out, float* delta, Sizes sizes) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int position = static_cast<int>(blockIdx.x) * kWarps + warp;
  if (position >= sizes.sequence_length) return;
  const int head = static_cast<int>(blockIdx.y), sequence = static_cast<int>(blockIdx.z);
  const T* a = out.At(sizes, sequence, position, head);
  const T* b = grad_out.At(sizes, sequence, position, head);
  float sum = 0;
  for (int c = lane; c < sizes.head_dim; c += kWarp) sum += Widen(a[c]) * Widen(b[c]);
  sum = WarpReduce(sum, SumOf());
  if (lane == 0) delta[(int64_t{sequence} * sizes.heads + head) * sizes.sequence_length + position] = sum;
}

// A block owns queries and meets keys.
template <typename T, int kParts>
__global__ void __launch_bounds__(kThreads)
    GradQueryKernel(HeadRows<const T> q, HeadRows<const T> k, HeadRows<const T> v, HeadRows<const T> grad_out,
                    const float* log_sum_exp, int64_t log_sum_exp_stride, const float* delta, HeadRows<T> grad_q,
                    Sizes sizes) {
  const Place at;
  const int kv_head = at.head * sizes.kv_heads / sizes.heads;
  auto* queries = DynamicShared<float>();
  float* grads = queries + kOwnRows * sizes.head_dim;
  float* keys = grads + kOwnRows * sizes.head_dim;
  float* values = keys + kTileRows * sizes.padded();
  LoadRows(q, sizes, at.sequence, at.head, at.block_first, kOwnRows, queries, sizes.head_dim);
  LoadRows(grad_out, sizes, at.sequence, at.head, at.block_first, kOwnRows, grads, sizes.head_dim);
  const int own = at.warp * kRowsPerWarp * sizes.head_dim;

  float normaliser[kRowsPerWarp], correction[kRowsPerWarp], result[kRowsPerWarp][kParts] = {}, ones[kRowsPerWarp];
#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) {
    const int t = min(at.first + r, sizes.sequence_length - 1);
    normaliser[r] = log_sum_exp[at.sequence * log_sum_exp_stride + int64_t{at.head} * sizes.sequence_length + t];
    correction[r] = delta[(int64_t{at.sequence} * sizes.heads + at.head) * sizes.sequence_length + t];
    ones[r] = 1.0F;
  }
  const int end = min(at.block_first + kOwnRows, sizes.sequence_length);
  for (int tile = 0; tile < end; tile += kTileRows) {
    __syncthreads();
    LoadRows(k, sizes, at.sequence, kv_head, tile, kTileRows, keys, sizes.padded());
    LoadRows(v, sizes, at.sequence, kv_head, tile, kTileRows, values, sizes.padded());
    __syncthreads();
    float scores[kRowsPerWarp], weights[kRowsPerWarp];
    Products(queries + own, keys, sizes, scores);
    Products(grads + own, values, sizes, weights);
#pragma unroll
    for (int r = 0; r < kRowsPerWarp; ++r) {
      const bool seen = tile + at.lane <= min(at.first + r, sizes.sequence_length - 1);
      const float p = seen ? expf(scores[r] * sizes.scale - normaliser[r]) : 0.0F;
      weights[r] = p * (weights[r] - correction[r]) * sizes.scale;
    }
    AddWeightedRows(weights, keys, sizes, result);
  }
  StoreRows(result, ones, grad_q, sizes, at.sequence, at.head, at.first);
}

// A block owns keys and values of one key-value head, and meets the queries of its heads one head after another.
template <typename T, int kParts>
__global__ void __launch_bounds__(kThreads)
    GradKeyValueKernel(HeadRows<const T> q, HeadRows<const T> k, HeadRows<const T> v, HeadRows<const T> grad_out,
                       const float* log_sum_exp, int64_t log_sum_exp_stride, const float* delta, HeadRows<T> grad_k,
                       HeadRows<T> grad_v, Sizes sizes) {
  const Place at;
  const int group = sizes.heads / sizes.kv_heads;
  auto* keys = DynamicShared<float>();
  float* values = keys + kOwnRows * sizes.head_dim;
  float* queries = values + kOwnRows * sizes.head_dim;
  float* grads = queries + kTileRows * sizes.padded();
  LoadRows(k, sizes, at.sequence, at.head, at.block_first, kOwnRows, keys, sizes.head_dim);
  LoadRows(v, sizes, at.sequence, at.head, at.block_first, kOwnRows, values, sizes.head_dim);
  const int own = at.warp * kRowsPerWarp * sizes.head_dim;

  float of_keys[kRowsPerWarp][kParts] = {}, of_values[kRowsPerWarp][kParts] = {}, ones[kRowsPerWarp];
#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) ones[r] = 1.0F;
  for (int head = at.head * group; head < (at.head + 1) * group; ++head) {
    for (int tile = at.block_first / kTileRows * kTileRows; tile < sizes.sequence_length; tile += kTileRows) {
      __syncthreads();
      LoadRows(q, sizes, at.sequence, head, tile, kTileRows, queries, sizes.padded());
      LoadRows(grad_out, sizes, at.sequence, head, tile, kTileRows, grads, sizes.padded());
      __syncthreads();
      const int t = tile + at.lane, inside = min(t, sizes.sequence_length - 1);
      const float normaliser =
          log_sum_exp[at.sequence * log_sum_exp_stride + int64_t{head} * sizes.sequence_length + inside];
      const float correction = delta[(int64_t{at.sequence} * sizes.heads + head) * sizes.sequence_length + inside];
      float weights[kRowsPerWarp], slopes[kRowsPerWarp];
      Products(keys + own, queries, sizes, weights);
      Products(values + own, grads, sizes, slopes);
#pragma unroll
      for (int r = 0; r < kRowsPerWarp; ++r) {
        const bool seen = at.first + r <= t && t < sizes.sequence_length;
        weights[r] = seen ? expf(weights[r] * sizes.scale - normaliser) : 0.0F;
        slopes[r] = weights[r] * (slopes[r] - correction) * sizes.scale;
      }
      AddWeightedRows(weights, grads, sizes, of_values);
      AddWeightedRows(slopes, queries, sizes, of_keys);
    }
  }
  StoreRows(of_keys, ones, grad_k, sizes, at.sequence, at.head, at.first);
  StoreRows(of_values, ones, grad_v, sizes, at.sequence, at.head, at.first);
}

template <typename T, int kParts>
absl::Status Forward(const AttentionForwardArgs& args, const Context& context) {
  return Launch("AttentionForward", ForwardKernel<T, kParts>, ShapeFor(args.shape, args.shape.heads, 1, 2), context,
                HeadRowsOf<const T>(args.q), HeadRowsOf<const T>(args.k), HeadRowsOf<const T>(args.v),
                HeadRowsOf<T>(args.out), args.log_sum_exp.As<float>(), args.log_sum_exp.row_stride,
                SizesOf(args.shape, args.scale));
}

template <typename T, int kParts>
absl::Status Backward(const AttentionBackwardArgs& args, const Context& context) {
  const Sizes sizes = SizesOf(args.shape, args.scale);
  const auto q = HeadRowsOf<const T>(args.q), k = HeadRowsOf<const T>(args.k), v = HeadRowsOf<const T>(args.v),
             grad_out = HeadRowsOf<const T>(args.grad_out);
  const auto* log_sum_exp = args.log_sum_exp.As<const float>();
  auto* delta = args.workspace.As<float>();
  const LaunchShape of_rows = {
      dim3(BlocksFor(args.shape.sequence_length, kWarps), static_cast<unsigned>(args.shape.heads),
           static_cast<unsigned>(args.shape.sequences)),
      dim3(kThreads)};
  ISTHMUS_RETURN_IF_ERROR(Launch("AttentionBackward", DeltaKernel<T>, of_rows, context, HeadRowsOf<const T>(args.out),
                                 grad_out, delta, sizes));
  ISTHMUS_RETURN_IF_ERROR(Launch("AttentionBackward", GradQueryKernel<T, kParts>,
                                 ShapeFor(args.shape, args.shape.heads, 2, 2), context, q, k, v, grad_out, log_sum_exp,
                                 args.log_sum_exp.row_stride, delta, HeadRowsOf<T>(args.grad_q), sizes));
  return Launch("AttentionBackward", GradKeyValueKernel<T, kParts>, ShapeFor(args.shape, args.shape.kv_heads, 2, 2),
                context, q, k, v, grad_out, log_sum_exp, args.log_sum_exp.row_stride, delta, HeadRowsOf<T>(args.grad_k),
                HeadRowsOf<T>(args.grad_v), sizes);
}

}  // namespace

absl::Status FlashAttentionForward(const AttentionForwardArgs& args, const Context& context) {
  return Specialise(args.q.dtype, args.shape.head_dim, [&](auto zero, auto parts) {
    return Forward<decltype(zero), decltype(parts)::value>(args, context);
  });
}

absl::Status FlashAttentionBackward(const AttentionBackwardArgs& args, const Context& context) {
  return Specialise(args.q.dtype, args.shape.head_dim, [&](auto zero, auto parts) {
    return Backward<decltype(zero), decltype(parts)::value>(args, context);
  });
}

}  // namespace isthmus::cuda
