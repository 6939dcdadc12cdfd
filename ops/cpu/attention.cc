#include "ops/attention.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/attention.cc"
#include <hwy/foreach_target.h>
//
#include <dnnl.h>
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include <cmath>
#include <limits>

#include "ops/cpu/attention_layout.h"
#include "ops/cpu/fp64_product.h"
#include "ops/cpu/vector-inl.h"
#include "ops/cpu/visit.h"
#include "runtime/parallel_for.h"

HWY_BEFORE_NAMESPACE();
namespace isthmus::cpu {
namespace HWY_NAMESPACE {

// A matrix of the compute type, const if it is only read.
template <typename C>
struct Block {
  C* data;
  int64_t stride;

  // A writable matrix converts to a const one.
  template <typename Other, typename = std::enable_if_t<!std::is_const_v<C> && std::is_same_v<Other, const C>>>
  operator Block<Other>() const {  // NOLINT(google-explicit-constructor)
    return {data, stride};
  }
  C* Row(int64_t row) const { return data + row * stride; }
  Block Rows(int64_t begin) const { return {Row(begin), stride}; }
};

template <typename C>
using ReadBlock = std::type_identity_t<Block<const C>>;

// Computes c [m, n] = op(a) op(b), or += with accumulate, on the calling thread.
template <typename C>
void Product(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, ReadBlock<C> a, ReadBlock<C> b,
             Block<C> c, bool accumulate) {
  if constexpr (std::is_same_v<C, float>) {
    dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', m, n, k, 1.0F, a.data, a.stride, b.data, b.stride,
               accumulate ? 1.0F : 0.0F, c.data, c.stride);
  } else {
    const auto view = [](Block<const C> block, int64_t rows, int64_t columns) {
      return ConstTensor(block.data, DType::kFloat64, rows, columns, block.stride);
    };
    Fp64Product({.a = transpose_a ? view(a, k, m) : view(a, m, k),
                 .b = transpose_b ? view(b, n, k) : view(b, k, n),
                 .c = Tensor(c.data, DType::kFloat64, m, n, c.stride),
                 .transpose_a = transpose_a,
                 .transpose_b = transpose_b,
                 .accumulate = accumulate});
  }
}

// Returns the rows of one head of one sequence in the compute type: the tensor's own memory, or a converted copy in
// `scratch`.
template <typename T, typename C>
Block<const C> HeadOf(const ConstTensor& tensor, const AttentionShape& shape, int64_t sequence, int64_t head,
                      C* scratch) {
  const int64_t first = sequence * shape.sequence_length;
  if constexpr (std::is_same_v<T, C>) {
    return {tensor.Row<T>(first) + head * shape.head_dim, tensor.row_stride};
  } else {
    const hn::ScalableTag<C> d;
    for (int64_t t = 0; t < shape.sequence_length; ++t) {
      const T* from = tensor.Row<T>(first + t) + head * shape.head_dim;
      C* to = scratch + t * shape.head_dim;
      ForParts(d, shape.head_dim, [&](int64_t i, size_t n) { StorePart(d, LoadPart(d, from + i, n), to + i, n); });
    }
    return {scratch, shape.head_dim};
  }
}

// Writes `rows` rows of the compute type to rows [first, …) of one head of a tensor, times `scale` by row where given.
template <typename T, typename C>
void StoreHead(ReadBlock<C> from, int64_t rows, const C* divisor, const Tensor& tensor, int64_t first, int64_t head,
               int64_t head_dim) {
  const hn::ScalableTag<C> d;
  for (int64_t row = 0; row < rows; ++row) {
    const C* source = from.Row(row);
    T* to = tensor.Row<T>(first + row) + head * head_dim;
    const auto factor = hn::Set(d, divisor != nullptr ? C{1} / divisor[row] : C{1});
    ForParts(d, head_dim,
             [&](int64_t i, size_t n) { StorePart(d, hn::Mul(LoadPart(d, source + i, n), factor), to + i, n); });
  }
}

// Works on one row of scores, `valid` of `count` columns. They are scaled, exponentiated relative to the new running
// maximum, and summed; columns beyond `valid` become 0. Returns the factor by which earlier accumulations must be
// multiplied.
template <typename C>
C SoftmaxRow(C* scores, int64_t valid, int64_t count, C scale, C& maximum, C& sum) {
  const hn::ScalableTag<C> d;
  constexpr C kInfinity = std::numeric_limits<C>::infinity();
  const auto factor = hn::Set(d, scale);
  auto maxima = hn::Set(d, -kInfinity);
  ForParts(d, valid, [&](int64_t i, size_t n) {
    const auto s = hn::Mul(LoadPart(d, scores + i, n), factor);
    StorePart(d, s, scores + i, n);
    maxima = hn::Max(maxima, hn::IfThenElse(hn::FirstN(d, n), s, hn::Set(d, -kInfinity)));
  });
  const C new_maximum = std::max(maximum, hn::GetLane(hn::MaxOfLanes(d, maxima)));
  const C correction = maximum == -kInfinity ? C{0} : std::exp(maximum - new_maximum);
  const auto shift = hn::Set(d, new_maximum);
  auto sums = hn::Zero(d);
  ForParts(d, valid, [&](int64_t i, size_t n) {
    const auto e = ExpOrNaN(d, hn::Sub(LoadPart(d, scores + i, n), shift));
    StorePart(d, e, scores + i, n);
    sums = hn::Add(sums, hn::IfThenElseZero(hn::FirstN(d, n), e));
  });
  std::fill(scores + valid, scores + count, C{0});
  maximum = new_maximum;
  sum = sum * correction + SumLanes(d, sums);
  return correction;
}

template <typename C>
void ScaleRow(C* row, int64_t count, C factor) {
  const hn::ScalableTag<C> d;
  ForParts(d, count, [&](int64_t i, size_t n) {
    StorePart(d, hn::Mul(LoadPart(d, row + i, n), hn::Set(d, factor)), row + i, n);
  });
}

// The forward pass of one query head of one sequence.
template <typename T, typename C>
void ForwardHead(const AttentionForwardArgs& args, const AttentionScratch& layout, int64_t sequence, int64_t head,
                 C* scratch) {
  const AttentionShape& shape = args.shape;
  const int64_t length = shape.sequence_length, dim = shape.head_dim, kv_head = head / layout.group;
  const Block<const C> query = HeadOf<T>(args.q, shape, sequence, head, scratch + layout.query);
  const Block<const C> key = HeadOf<T>(args.k, shape, sequence, kv_head, scratch + layout.key);
  const Block<const C> value = HeadOf<T>(args.v, shape, sequence, kv_head, scratch + layout.value);
  const Block<C> scores = {scratch + layout.scores, layout.block};
  const Block<C> accumulator = {scratch + layout.accumulator, dim};
  C *maximum = scratch + layout.row_maximum, *sum = scratch + layout.row_sum;
  C* log_sum_exp = args.log_sum_exp.Row<C>(sequence) + head * length;

  for (int64_t q = 0; q < length; q += layout.block) {
    const int64_t rows = std::min(layout.block, length - q);
    std::fill(maximum, maximum + rows, -std::numeric_limits<C>::infinity());
    std::fill(sum, sum + rows, C{0});
    for (int64_t k = 0; k <= q; k += layout.block) {
      const int64_t columns = std::min(layout.block, length - k);
      Product(false, true, rows, columns, dim, query.Rows(q), key.Rows(k), scores, false);
      for (int64_t row = 0; row < rows; ++row) {
        const int64_t valid = std::min(columns, q + row - k + 1);
        const C correction =
            SoftmaxRow(scores.Row(row), valid, columns, static_cast<C>(args.scale), maximum[row], sum[row]);
        if (k > 0 && correction != C{1}) ScaleRow(accumulator.Row(row), dim, correction);
      }
      Product(false, false, rows, dim, columns, scores, value.Rows(k), accumulator, k > 0);
    }
    StoreHead<T, C>(accumulator, rows, sum, args.out, sequence * length + q, head, dim);
    for (int64_t row = 0; row < rows; ++row) log_sum_exp[q + row] = maximum[row] + std::log(sum[row]);
  }
}

// Turns scores into P = exp(scale · scores - log_sum_exp) and grad_scores into scale · P (grad_scores - row_dot), in
// place.
template <typename C>
void BackwardRow(C* scores, C* grad_scores, int64_t valid, int64_t count, C scale, C log_sum_exp, C row_dot) {
  const hn::ScalableTag<C> d;
  const auto factor = hn::Set(d, scale), shift = hn::Set(d, log_sum_exp), dot = hn::Set(d, row_dot);
  ForParts(d, valid, [&](int64_t i, size_t n) {
    const auto p = ExpOrNaN(d, hn::MulSub(LoadPart(d, scores + i, n), factor, shift));
    const auto gradient = hn::Mul(hn::Mul(p, factor), hn::Sub(LoadPart(d, grad_scores + i, n), dot));
    StorePart(d, p, scores + i, n);
    StorePart(d, gradient, grad_scores + i, n);
  });
  std::fill(scores + valid, scores + count, C{0});
  std::fill(grad_scores + valid, grad_scores + count, C{0});
}

// row_dot[t] = grad_out[t] · out[t] of one query head.
template <typename T, typename C>
void RowDots(const AttentionBackwardArgs& args, int64_t sequence, int64_t head, C* row_dot) {
  const hn::ScalableTag<C> d;
  const AttentionShape& shape = args.shape;
  for (int64_t t = 0; t < shape.sequence_length; ++t) {
    const int64_t row = sequence * shape.sequence_length + t;
    const T *out = args.out.Row<T>(row) + head * shape.head_dim,
            *grad = args.grad_out.Row<T>(row) + head * shape.head_dim;
    auto sum = hn::Zero(d);
    ForParts(d, shape.head_dim,
             [&](int64_t i, size_t n) { sum = hn::MulAdd(LoadPart(d, out + i, n), LoadPart(d, grad + i, n), sum); });
    row_dot[t] = SumLanes(d, sum);
  }
}

// The backward pass of one key and value head of one sequence. The query heads that share it are added in order.
template <typename T, typename C>
void BackwardGroup(const AttentionBackwardArgs& args, const AttentionScratch& layout, int64_t sequence, int64_t kv_head,
                   C* scratch) {
  const AttentionShape& shape = args.shape;
  const int64_t length = shape.sequence_length, dim = shape.head_dim, first_row = sequence * length;
  const int64_t first_head = kv_head * layout.group;
  const Block<const C> key = HeadOf<T>(args.k, shape, sequence, kv_head, scratch + layout.key);
  const Block<const C> value = HeadOf<T>(args.v, shape, sequence, kv_head, scratch + layout.value);
  const Block<C> scores = {scratch + layout.scores, layout.block},
                 grad_scores = {scratch + layout.grad_scores, layout.block};
  const Block<C> grad_key = {scratch + layout.accumulator, dim}, grad_value = {scratch + layout.accumulator2, dim};
  const Block<C> grad_query = {scratch + layout.grad_query, dim};
  C* row_dot = scratch + layout.row_dot;
  for (int64_t member = 0; member < layout.group; ++member) {
    RowDots<T>(args, sequence, first_head + member, row_dot + member * length);
    HeadOf<T>(args.q, shape, sequence, first_head + member, scratch + layout.query + member * length * dim);
    HeadOf<T>(args.grad_out, shape, sequence, first_head + member, scratch + layout.grad_out + member * length * dim);
  }
  const auto member_of = [&](const ConstTensor& tensor, int64_t converted, int64_t member) -> Block<const C> {
    if constexpr (std::is_same_v<T, C>) return HeadOf<T>(tensor, shape, sequence, first_head + member, scratch);
    return {scratch + converted + member * length * dim, dim};
  };

  for (int64_t k = 0; k < length; k += layout.block) {
    const int64_t columns = std::min(layout.block, length - k);
    bool first = true;
    for (int64_t member = 0; member < layout.group; ++member) {
      const Block<const C> query = member_of(args.q, layout.query, member);
      const Block<const C> grad_out = member_of(args.grad_out, layout.grad_out, member);
      const C* log_sum_exp = args.log_sum_exp.Row<C>(sequence) + (first_head + member) * length;
      for (int64_t q = k; q < length; q += layout.block) {
        const int64_t rows = std::min(layout.block, length - q);
        Product(false, true, rows, columns, dim, query.Rows(q), key.Rows(k), scores, false);
        Product(false, true, rows, columns, dim, grad_out.Rows(q), value.Rows(k), grad_scores, false);
        for (int64_t row = 0; row < rows; ++row) {
          BackwardRow(scores.Row(row), grad_scores.Row(row), std::min(columns, q + row - k + 1), columns,
                      static_cast<C>(args.scale), log_sum_exp[q + row], row_dot[member * length + q + row]);
        }
        Product(true, false, columns, dim, rows, scores, grad_out.Rows(q), grad_value, !first);
        Product(true, false, columns, dim, rows, grad_scores, query.Rows(q), grad_key, !first);
        Product(false, false, rows, dim, columns, grad_scores, key.Rows(k), grad_query.Rows(member * length + q),
                k > 0);
        first = false;
      }
    }
    StoreHead<T, C>(grad_key, columns, nullptr, args.grad_k, first_row + k, kv_head, dim);
    StoreHead<T, C>(grad_value, columns, nullptr, args.grad_v, first_row + k, kv_head, dim);
  }
  for (int64_t member = 0; member < layout.group; ++member) {
    StoreHead<T, C>(grad_query.Rows(member * length), length, nullptr, args.grad_q, first_row, first_head + member,
                    dim);
  }
}

void ForwardAny(const AttentionForwardArgs& args) {
  VisitFloating(args.q.dtype, [&](auto zero) {
    using T = decltype(zero);
    using C = ComputeOf<T>;
    const AttentionScratch layout = AttentionScratch::Of(args.shape, !std::is_same_v<T, C>);
    ParallelFor(args.shape.sequences * args.shape.heads, 1, [&](int64_t begin, int64_t end, int thread) {
      const OneThread products_here;
      C* scratch = args.workspace.As<C>() + thread * layout.elements;
      for (int64_t item = begin; item < end; ++item) {
        ForwardHead<T>(args, layout, item / args.shape.heads, item % args.shape.heads, scratch);
      }
    });
  });
}

void BackwardAny(const AttentionBackwardArgs& args) {
  VisitFloating(args.q.dtype, [&](auto zero) {
    using T = decltype(zero);
    using C = ComputeOf<T>;
    const AttentionScratch layout = AttentionScratch::Of(args.shape, !std::is_same_v<T, C>);
    ParallelFor(args.shape.sequences * args.shape.kv_heads, 1, [&](int64_t begin, int64_t end, int thread) {
      const OneThread products_here;
      C* scratch = args.workspace.As<C>() + thread * layout.elements;
      for (int64_t item = begin; item < end; ++item) {
        BackwardGroup<T>(args, layout, item / args.shape.kv_heads, item % args.shape.kv_heads, scratch);
      }
    });
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace isthmus::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "runtime/status.h"

namespace isthmus::cpu {

HWY_EXPORT(ForwardAny);
HWY_EXPORT(BackwardAny);

int64_t AttentionWorkspaceBytes(const AttentionShape& shape, DType dtype) {
  const AttentionScratch layout = AttentionScratch::Of(shape, dtype == DType::kBFloat16);
  return layout.elements * SizeOf(AccumulationType(dtype)) * MaxThreads();
}

absl::Status AttentionForward(const AttentionForwardArgs& args) {
  HWY_DYNAMIC_DISPATCH(ForwardAny)(args);
  return absl::OkStatus();
}

absl::Status AttentionBackward(const AttentionBackwardArgs& args) {
  HWY_DYNAMIC_DISPATCH(BackwardAny)(args);
  return absl::OkStatus();
}

}  // namespace isthmus::cpu
#endif  // HWY_ONCE
