#include "ops/broadcast.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/broadcast.cc"
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
void AddVector(const AddRowArgs& args) {
  using Sum = ComputeOf<T>;
  const hn::ScalableTag<Sum> d;
  const T* x = args.x.As<T>();
  ParallelFor(args.y.rows, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      Sum* y = args.y.Row<Sum>(row);
      ForParts(d, args.y.columns, [&](int64_t i, size_t n) {
        StorePart(d, hn::Add(LoadPart(d, y + i, n), LoadPart(d, x + i, n)), y + i, n);
      });
    }
  });
}

template <typename T, typename Factor>
void Scale(const ScaleRowsArgs& args) {
  using Number = ComputeOf<T>;
  const hn::ScalableTag<Number> d;
  ParallelFor(args.x.rows, 8, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const auto given = static_cast<Number>(*args.factors.Row<Factor>(row));
      const auto factor = hn::Set(d, args.inverse ? 1 / given : given);
      const T* x = args.x.Row<T>(row);
      T* y = args.y.Row<T>(row);
      ForParts(d, args.x.columns, [&](int64_t i, size_t n) {
        auto value = hn::Mul(factor, LoadPart(d, x + i, n));
        if (args.accumulate) value = hn::Add(value, LoadPart(d, y + i, n));
        StorePart(d, value, y + i, n);
      });
    }
  });
}

void AddAny(const AddRowArgs& args) {
  VisitFloating(args.x.dtype, [&](auto zero) { AddVector<decltype(zero)>(args); });
}
void ScaleAny(const ScaleRowsArgs& args) {
  if (args.x.dtype != args.factors.dtype) return Scale<float, BFloat16>(args);
  VisitFloating(args.x.dtype, [&](auto zero) { Scale<decltype(zero), decltype(zero)>(args); });
}

}  // namespace HWY_NAMESPACE
}  // namespace isthmus::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace isthmus::cpu {

HWY_EXPORT(AddAny);
HWY_EXPORT(ScaleAny);

absl::Status AddRow(const AddRowArgs& args) {
  HWY_DYNAMIC_DISPATCH(AddAny)(args);
  return absl::OkStatus();
}

absl::Status ScaleRows(const ScaleRowsArgs& args) {
  HWY_DYNAMIC_DISPATCH(ScaleAny)(args);
  return absl::OkStatus();
}

}  // namespace isthmus::cpu
#endif  // HWY_ONCE
