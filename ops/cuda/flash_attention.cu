// Causal attention block by block with an online softmax (Dao et al. 2022, arXiv:2205.14135, algorithms 1 and 4). A
// warp owns a few rows. Its lanes share first the columns of a score tile, then those of the head. There are no
// atomics: gradients of keys and values are made by blocks that own keys.
#include <absl/strings/str_cat.h>

#include "ops/cuda/dynamic_shared.cuh"
#include "ops/cuda/flash_attention.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/numeric.cuh"
#include "ops/cuda/reduce.cuh"
#include "runtime/status.h"

namespace isthmus::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarp;
constexpr int kRowsPerWarp = 4;
constexpr int kOwnRows = kWarps * kRowsPerWarp;  // rows that a block owns
constexpr int kTile = kWarp;                     // rows of the other side that it meets at once: one per lane

struct Sizes {
  int sequence_length, heads, kv_heads, head_dim;
  float scale;
  __host__ __device__ int padded() const { return head_dim + 1; }  // row of a tile: lanes meet different banks
};

// The layout [sequence][position][head] of q, k, v or one of their gradients.
template <typename T>
struct HeadRows {
  T* data;
  int64_t stride;
  __device__ __forceinline__ T* At(const Sizes& sizes, int sequence, int position, int head) const {
    return data + (int64_t{sequence} * sizes.sequence_length + position) * stride + int64_t{head} * sizes.head_dim;
  }
};
template <typename T>
HeadRows<T> HeadRowsOf(const ViewFor<T>& tensor) {
  return {tensor.template As<T>(), tensor.row_stride};
}

// Loads rows [first, first + count) of one head to shared memory, `pitch` floats apart, with zeros beyond the sequence.
template <typename T>
__device__ void LoadRows(const HeadRows<const T>& from, const Sizes& sizes, int sequence, int head, int first,
                         int count, float* to, int pitch) {
  for (int i = static_cast<int>(threadIdx.x); i < count * sizes.head_dim; i += kThreads) {
    const int row = i / sizes.head_dim, c = i % sizes.head_dim, position = first + row;
    to[row * pitch + c] = position < sizes.sequence_length ? Widen(from.At(sizes, sequence, position, head)[c]) : 0.0F;
  }
}

// Computes products[r] = row r of the warp's own rows · this lane's row of the tile.
__device__ __forceinline__ void Products(const float* own, const float* tile, const Sizes& sizes,
                                         float (&products)[kRowsPerWarp]) {
  const float* mine = tile + (threadIdx.x % kWarp) * sizes.padded();
#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) products[r] = 0;
  for (int c = 0; c < sizes.head_dim; ++c) {
    const float value = mine[c];
#pragma unroll
    for (int r = 0; r < kRowsPerWarp; ++r) products[r] += own[r * sizes.head_dim + c] * value;
  }
}

// Computes sums[r][part] += Σ over lanes j of weights[r] of lane j · row j of the tile, column lane + 32 part.
template <int kParts>
__device__ __forceinline__ void AddWeightedRows(const float (&weights)[kRowsPerWarp], const float* tile,
                                                const Sizes& sizes, float (&sums)[kRowsPerWarp][kParts]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int j = 0; j < kTile; ++j) {
    float weight[kRowsPerWarp];
#pragma unroll
    for (int r = 0; r < kRowsPerWarp; ++r) weight[r] = __shfl_sync(0xffffffffu, weights[r], j);
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      const int c = lane + part * kWarp;
      const float value = c < sizes.head_dim ? tile[j * sizes.padded() + c] : 0.0F;
#pragma unroll
      for (int r = 0; r < kRowsPerWarp; ++r) sums[r][part] += weight[r] * value;
    }
  }
}

// Writes the warp's rows of one head, times `factors`.
template <typename T, int kParts>
__device__ __forceinline__ void StoreRows(const float (&sums)[kRowsPerWarp][kParts],
                                          const float (&factors)[kRowsPerWarp], const HeadRows<T>& to,
                                          const Sizes& sizes, int sequence, int head, int first) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) {
    if (first + r >= sizes.sequence_length) return;
    T* row = to.At(sizes, sequence, first + r, head);
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      const int c = lane + part * kWarp;
      if (c < sizes.head_dim) row[c] = Narrow<T>(sums[r][part] * factors[r]);
    }
  }
}

// The work of a block: blockIdx (rows of kOwnRows, head, sequence), and its warp's first row.
struct Place {
  int block_first, first, head, sequence, lane, warp;
  __device__ __forceinline__ Place()
      : block_first(static_cast<int>(blockIdx.x) * kOwnRows),
        head(static_cast<int>(blockIdx.y)),
        sequence(static_cast<int>(blockIdx.z)),
        lane(static_cast<int>(threadIdx.x) % kWarp),
        warp(static_cast<int>(threadIdx.x) / kWarp) {
    first = block_first + warp * kRowsPerWarp;
  }
};

// A block owns queries and meets keys.
template <typename T, int kParts>
__global__ void __launch_bounds__(kThreads)
    ForwardKernel(HeadRows<const T> q, HeadRows<const T> k, HeadRows<const T> v, HeadRows<T> out, float* log_sum_exp,
                  int64_t log_sum_exp_stride, Sizes sizes) {
  const Place at;
  const int kv_head = at.head * sizes.kv_heads / sizes.heads;
  auto* queries = DynamicShared<float>();
  float* keys = queries + kOwnRows * sizes.head_dim;
  float* values = keys + kTile * sizes.padded();
  LoadRows(q, sizes, at.sequence, at.head, at.block_first, kOwnRows, queries, sizes.head_dim);
  const float* own = queries + at.warp * kRowsPerWarp * sizes.head_dim;

  float maximum[kRowsPerWarp], sum[kRowsPerWarp], result[kRowsPerWarp][kParts] = {};
#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) {
    maximum[r] = -INFINITY;
    sum[r] = 0;
  }
  const int end = min(at.block_first + kOwnRows, sizes.sequence_length);
  for (int tile = 0; tile < end; tile += kTile) {
    __syncthreads();
    LoadRows(k, sizes, at.sequence, kv_head, tile, kTile, keys, sizes.padded());
    LoadRows(v, sizes, at.sequence, kv_head, tile, kTile, values, sizes.padded());
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
  float* values = keys + kTile * sizes.padded();
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
  for (int tile = 0; tile < end; tile += kTile) {
    __syncthreads();
    LoadRows(k, sizes, at.sequence, kv_head, tile, kTile, keys, sizes.padded());
    LoadRows(v, sizes, at.sequence, kv_head, tile, kTile, values, sizes.padded());
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
  float* grads = queries + kTile * sizes.padded();
  LoadRows(k, sizes, at.sequence, at.head, at.block_first, kOwnRows, keys, sizes.head_dim);
  LoadRows(v, sizes, at.sequence, at.head, at.block_first, kOwnRows, values, sizes.head_dim);
  const int own = at.warp * kRowsPerWarp * sizes.head_dim;

  float of_keys[kRowsPerWarp][kParts] = {}, of_values[kRowsPerWarp][kParts] = {}, ones[kRowsPerWarp];
#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) ones[r] = 1.0F;
  for (int head = at.head * group; head < (at.head + 1) * group; ++head) {
    for (int tile = at.block_first / kTile * kTile; tile < sizes.sequence_length; tile += kTile) {
      __syncthreads();
      LoadRows(q, sizes, at.sequence, head, tile, kTile, queries, sizes.padded());
      LoadRows(grad_out, sizes, at.sequence, head, tile, kTile, grads, sizes.padded());
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

Sizes SizesOf(const AttentionShape& shape, double scale) {
  return {static_cast<int>(shape.sequence_length), static_cast<int>(shape.heads), static_cast<int>(shape.kv_heads),
          static_cast<int>(shape.head_dim), static_cast<float>(scale)};
}

// `own` and `tiles` say how many arrays of either kind a kernel keeps in shared memory.
LaunchShape ShapeFor(const AttentionShape& shape, int64_t heads, int own, int tiles) {
  const int64_t floats = own * kOwnRows * shape.head_dim + tiles * kTile * (shape.head_dim + 1);
  return {dim3(BlocksFor(shape.sequence_length, kOwnRows), static_cast<unsigned>(heads),
               static_cast<unsigned>(shape.sequences)),
          dim3(kThreads), floats * int64_t{sizeof(float)}};
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

// Calls visit(T{}, parts) with the element type and the number of 32-column parts of a head as a constant.
template <typename Visit>
absl::Status Specialise(DType dtype, int64_t head_dim, const Visit& visit) {
  if (head_dim > kLargestFlashHeadDim) {
    return absl::UnimplementedError(
        absl::StrCat("attention: head_dim ", head_dim, "; GPUs take up to ", kLargestFlashHeadDim));
  }
  return VisitElements(dtype, [&](auto zero) {
    if (head_dim <= kWarp) return visit(zero, std::integral_constant<int, 1>());
    if (head_dim <= 2 * kWarp) return visit(zero, std::integral_constant<int, 2>());
    if (head_dim <= 4 * kWarp) return visit(zero, std::integral_constant<int, 4>());
    return visit(zero, std::integral_constant<int, 8>());
  });
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
