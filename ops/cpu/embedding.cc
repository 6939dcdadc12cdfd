#include "ops/embedding.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/embedding.cc"
#include <hwy/foreach_target.h>
//
#include <hwy/highway.h>

#include "ops/cpu/vector-inl.h"
#include "ops/cpu/visit.h"
#include "runtime/parallel_for.h"

HWY_BEFORE_NAMESPACE();
namespace isthmus::cpu {
namespace HWY_NAMESPACE {

template <typename T>
void Forward(const EmbeddingForwardArgs& args) {
  const int32_t* ids = args.ids.As<int32_t>();
  const auto bytes = static_cast<size_t>(args.y.columns) * sizeof(T);
  ParallelFor(args.y.rows, 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t n = begin; n < end; ++n) {
      const int64_t row = ids[n] - args.first_row;
      T* y = args.y.Row<T>(n);
      if (row < 0 || row >= args.table.rows) {
        std::memset(static_cast<void*>(y), 0, bytes);
      } else {
        std::memcpy(static_cast<void*>(y), args.table.Row<T>(row), bytes);
      }
    }
  });
}

// `keys` holds (row << 32) | n for the tokens in this shard, ascending. Every thread takes the rows that begin in its
// range.
template <typename T>
void AddRows(const EmbeddingBackwardArgs& args, const int64_t* keys, int64_t count) {
  using C = ComputeOf<T>;
  const hn::ScalableTag<C> d;
  ParallelFor(count, 16, [&](int64_t begin, int64_t end, int) {
    const auto row_of = [&](int64_t i) { return keys[i] >> 32; };
    int64_t i = begin;
    while (i < end && i > 0 && row_of(i) == row_of(i - 1)) ++i;
    while (i < end) {
      const int64_t row = row_of(i);
      C* sum = args.grad_table.Row<C>(row);
      for (; i < count && row_of(i) == row; ++i) {
        const T* grad = args.grad_y.Row<T>(keys[i] & 0xffffffff);
        ForParts(d, args.grad_y.columns, [&](int64_t c, size_t n) {
          StorePart(d, hn::Add(LoadPart(d, sum + c, n), LoadPart(d, grad + c, n)), sum + c, n);
        });
      }
    }
  });
}

void ForwardAny(const EmbeddingForwardArgs& args) {
  VisitFloating(args.y.dtype, [&](auto zero) { Forward<decltype(zero)>(args); });
}
void AddRowsAny(const EmbeddingBackwardArgs& args, const int64_t* keys, int64_t count) {
  VisitFloating(args.grad_y.dtype, [&](auto zero) { AddRows<decltype(zero)>(args, keys, count); });
}

}  // namespace HWY_NAMESPACE
}  // namespace isthmus::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "runtime/status.h"

namespace isthmus::cpu {

HWY_EXPORT(ForwardAny);
HWY_EXPORT(AddRowsAny);

absl::Status EmbeddingForward(const EmbeddingForwardArgs& args) {
  HWY_DYNAMIC_DISPATCH(ForwardAny)(args);
  return absl::OkStatus();
}

absl::Status EmbeddingBackward(const EmbeddingBackwardArgs& args) {
  const int64_t tokens = args.grad_y.rows;
  int64_t* keys = args.workspace.As<int64_t>();
  const int32_t* ids = args.ids.As<int32_t>();
  int64_t count = 0;
  for (int64_t n = 0; n < tokens; ++n) {
    const int64_t row = ids[n] - args.first_row;
    if (row >= 0 && row < args.grad_table.rows) keys[count++] = (row << 32) | n;
  }
  std::sort(keys, keys + count);
  HWY_DYNAMIC_DISPATCH(AddRowsAny)(args, keys, count);
  return absl::OkStatus();
}

}  // namespace isthmus::cpu
#endif  // HWY_ONCE
