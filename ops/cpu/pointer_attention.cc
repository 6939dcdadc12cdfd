#include "ops/pointer_attention.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/pointer_attention.cc"
#include <hwy/foreach_target.h>
//
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "ops/cpu/vector-inl.h"
#include "ops/cpu/visit.h"
#include "runtime/parallel_for.h"

HWY_BEFORE_NAMESPACE();
namespace isthmus::cpu {
namespace HWY_NAMESPACE {

// Converts a row, from or to the compute type C.
template <typename C, typename From, typename To>
void ConvertRow(const From* from, int64_t count, To* to) {
  const hn::ScalableTag<C> d;
  ForParts(d, count, [&](int64_t i, size_t n) { StorePart(d, LoadPart(d, from + i, n), to + i, n); });
}

template <typename T, typename C>
C Dot(const C* a, const T* b, int64_t count) {
  const hn::ScalableTag<C> d;
  auto sum = hn::Zero(d);
  ForParts(d, count, [&](int64_t i, size_t n) { sum = hn::MulAdd(LoadPart(d, a + i, n), LoadPart(d, b + i, n), sum); });
  return SumLanes(d, sum);
}

// Computes sum += factor · row.
template <typename T, typename C>
void AddRow(C factor, const T* row, int64_t count, C* sum) {
  const hn::ScalableTag<C> d;
  const auto factors = hn::Set(d, factor);
  ForParts(d, count, [&](int64_t i, size_t n) {
    StorePart(d, hn::MulAdd(factors, LoadPart(d, row + i, n), LoadPart(d, sum + i, n)), sum + i, n);
  });
}

// Computes exponentials[i] = exp(scores[i] - shift).
template <typename C>
void ExpRow(const C* scores, int64_t count, C shift, C* exponentials) {
  const hn::ScalableTag<C> d;
  const auto shifts = hn::Set(d, shift);
  ForParts(d, count, [&](int64_t i, size_t n) {
    StorePart(d, ExpOrNaN(d, hn::Sub(LoadPart(d, scores + i, n), shifts)), exponentials + i, n);
  });
}

// The same with one shift for each score.
template <typename C>
void ExpRow(const C* scores, int64_t count, const C* shifts, C* exponentials) {
  const hn::ScalableTag<C> d;
  ForParts(d, count, [&](int64_t i, size_t n) {
    StorePart(d, ExpOrNaN(d, hn::Sub(LoadPart(d, scores + i, n), LoadPart(d, shifts + i, n))), exponentials + i, n);
  });
}

// Computes the scores of `row` with `count` rows of `others` from `first` on.
template <typename T, typename C>
void Scores(const C* row, const ConstTensor& others, int64_t first, int64_t count, C scale, C* scores) {
  for (int64_t i = 0; i < count; ++i) scores[i] = scale * Dot(row, others.Row<T>(first + i), others.columns);
}

// Calls visit(first row of the sequence, position, thread's buffers) for each token, on all threads. Positions come
// from both ends of a sequence in turn, so that threads have alike numbers of pairs.
template <typename C, typename Visit>
void ForTokens(int64_t tokens, int64_t sequence_length, int64_t width, const Visit& visit) {
  ParallelFor(tokens, 1, [&](int64_t begin, int64_t end, int) {
    std::vector<C> row(static_cast<size_t>(width)), sum(row.size());
    std::vector<C> scores(static_cast<size_t>(sequence_length)), exponentials(scores.size());
    for (int64_t i = begin; i < end; ++i) {
      const int64_t place = i % sequence_length;
      const int64_t position = place % 2 == 0 ? place / 2 : sequence_length - 1 - place / 2;
      visit(i - place, position, row.data(), sum.data(), scores.data(), exponentials.data());
    }
  });
}

template <typename T>
void Forward(const PointerAttentionForwardArgs& args) {
  using C = ComputeOf<T>;
  const int64_t width = args.q.columns;
  const auto *ids = args.ids.As<int32_t>(), *targets = args.targets.As<int32_t>();
  const C scale = static_cast<C>(args.scale), sink = static_cast<C>(args.sink.As<T>()[0]);
  ForTokens<C>(args.q.rows, args.sequence_length, width,
               [&](int64_t first, int64_t position, C* query, C*, C* scores, C* exponentials) {
                 const int64_t n = first + position, count = position + 1;
                 ConvertRow<C>(args.q.Row<T>(n), width, query);
                 Scores<T>(query, args.k, first, count, scale, scores);
                 const C maximum = std::max(sink, *std::max_element(scores, scores + count));
                 ExpRow(scores, count, maximum, exponentials);
                 double sum = std::exp(double{sink} - double{maximum}), match = 0;
                 for (int64_t i = 0; i < count; ++i) {
                   sum += double{exponentials[i]};
                   if (ids[first + i] == targets[n]) match += double{exponentials[i]};
                 }
                 args.log_sum_exp.As<C>()[n] = static_cast<C>(double{maximum} + std::log(sum));
                 args.log_match.As<C>()[n] = static_cast<C>(std::log(match) - std::log(sum));
               });
}

// The scores of one query have this in common.
template <typename C>
struct QueryGradient {
  C log_sum_exp, log_match, of_match, of_all;
  int32_t target;

  QueryGradient(const PointerAttentionBackwardArgs& args, int64_t n)
      : log_sum_exp(args.log_sum_exp.As<C>()[n]),
        log_match(args.log_match.As<C>()[n]),
        of_match(log_match == -std::numeric_limits<C>::infinity() ? C{0} : args.grad_log_match.As<C>()[n]),
        of_all(-(of_match + args.grad_log_sink.As<C>()[n])),
        target(args.targets.As<int32_t>()[n]) {}

  // The gradient by the score of a position with the token `id` and the mass exp(score - log_sum_exp).
  C OfScore(C score, C mass, int32_t id) const {
    const C gradient = of_all * mass;
    if (id != target || of_match == C{0}) return gradient;
    return gradient + of_match * std::exp(score - log_sum_exp - log_match);
  }
};

template <typename T>
void GradQuery(const PointerAttentionBackwardArgs& args) {
  using C = ComputeOf<T>;
  const int64_t width = args.q.columns;
  const auto* ids = args.ids.As<int32_t>();
  const C scale = static_cast<C>(args.scale);
  ForTokens<C>(args.q.rows, args.sequence_length, width,
               [&](int64_t first, int64_t position, C* query, C* sum, C* scores, C* masses) {
                 const int64_t n = first + position, count = position + 1;
                 const QueryGradient<C> gradient(args, n);
                 ConvertRow<C>(args.q.Row<T>(n), width, query);
                 Scores<T>(query, args.k, first, count, scale, scores);
                 ExpRow(scores, count, gradient.log_sum_exp, masses);
                 std::fill(sum, sum + width, C{0});
                 for (int64_t i = 0; i < count; ++i) {
                   AddRow(scale * gradient.OfScore(scores[i], masses[i], ids[first + i]), args.k.Row<T>(first + i),
                          width, sum);
                 }
                 ConvertRow<C>(sum, width, args.grad_q.Row<T>(n));
               });
}

template <typename T>
void GradKey(const PointerAttentionBackwardArgs& args) {
  using C = ComputeOf<T>;
  const int64_t width = args.q.columns;
  const auto* ids = args.ids.As<int32_t>();
  const C scale = static_cast<C>(args.scale);
  ForTokens<C>(args.q.rows, args.sequence_length, width,
               [&](int64_t first, int64_t position, C* key, C* sum, C* scores, C* masses) {
                 const int64_t j = first + position, count = args.sequence_length - position;
                 ConvertRow<C>(args.k.Row<T>(j), width, key);
                 Scores<T>(key, args.q, j, count, scale, scores);
                 ExpRow(scores, count, args.log_sum_exp.As<C>() + j, masses);
                 std::fill(sum, sum + width, C{0});
                 for (int64_t i = 0; i < count; ++i) {
                   const QueryGradient<C> gradient(args, j + i);
                   AddRow(scale * gradient.OfScore(scores[i], masses[i], ids[j]), args.q.Row<T>(j + i), width, sum);
                 }
                 ConvertRow<C>(sum, width, args.grad_k.Row<T>(j));
               });
}

// Adds the tokens' gradients by the sink in their order.
template <typename T>
void GradSink(const PointerAttentionBackwardArgs& args) {
  using C = ComputeOf<T>;
  const auto sink = static_cast<double>(static_cast<C>(args.sink.As<T>()[0]));
  double sum = 0;
  for (int64_t n = 0; n < args.q.rows; ++n) {
    const QueryGradient<C> gradient(args, n);
    sum +=
        double{args.grad_log_sink.As<C>()[n]} + double{gradient.of_all} * std::exp(sink - double{gradient.log_sum_exp});
  }
  args.grad_sink.As<C>()[0] += static_cast<C>(sum);
}

void ForwardAny(const PointerAttentionForwardArgs& args) {
  VisitFloating(args.q.dtype, [&](auto zero) { Forward<decltype(zero)>(args); });
}
void BackwardAny(const PointerAttentionBackwardArgs& args) {
  VisitFloating(args.q.dtype, [&](auto zero) {
    using T = decltype(zero);
    GradQuery<T>(args);
    GradKey<T>(args);
    GradSink<T>(args);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace isthmus::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace isthmus::cpu {

HWY_EXPORT(ForwardAny);
HWY_EXPORT(BackwardAny);

absl::Status PointerAttentionForward(const PointerAttentionForwardArgs& args) {
  HWY_DYNAMIC_DISPATCH(ForwardAny)(args);
  return absl::OkStatus();
}

absl::Status PointerAttentionBackward(const PointerAttentionBackwardArgs& args) {
  HWY_DYNAMIC_DISPATCH(BackwardAny)(args);
  return absl::OkStatus();
}

}  // namespace isthmus::cpu
#endif  // HWY_ONCE
