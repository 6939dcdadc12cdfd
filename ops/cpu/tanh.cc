#include "ops/tanh.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/tanh.cc"
#include <hwy/foreach_target.h>
//
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include "ops/cpu/vector-inl.h"
#include "ops/cpu/visit.h"
#include "runtime/parallel_for.h"

HWY_BEFORE_NAMESPACE();
namespace isthmus::cpu {
namespace HWY_NAMESPACE {

// Highway's own need not keep NaN.
template <class D>
HWY_INLINE hn::Vec<D> TanhOrNaN(D d, hn::Vec<D> x) {
  return hn::IfThenElse(hn::IsNaN(x), x, hn::Tanh(d, x));
}

template <typename T>
void ForwardTanh(const TanhForwardArgs& args) {
  const hn::ScalableTag<ComputeOf<T>> d;
  ParallelFor(args.x.rows, 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const T* x = args.x.Row<T>(row);
      T* y = args.y.Row<T>(row);
      ForParts(d, args.x.columns,
               [&](int64_t i, size_t n) { StorePart(d, TanhOrNaN(d, LoadPart(d, x + i, n)), y + i, n); });
    }
  });
}

template <typename T>
void BackwardTanh(const TanhBackwardArgs& args) {
  using Compute = ComputeOf<T>;
  const hn::ScalableTag<Compute> d;
  const auto one = hn::Set(d, 1);
  ParallelFor(args.y.rows, 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const auto factor = hn::Set(d, args.factors.As<Compute>()[row]);
      const T* grad_y = args.grad_y.Row<T>(row);
      T *y = args.y.Row<T>(row), *grad_x = args.grad_x.Row<T>(row);
      ForParts(d, args.y.columns, [&](int64_t i, size_t n) {
        const auto value = LoadPart(d, static_cast<const T*>(y) + i, n);
        const auto slope = hn::Mul(hn::Sub(one, value), hn::Add(one, value));
        StorePart(d, hn::Mul(hn::Mul(factor, LoadPart(d, grad_y + i, n)), slope), grad_x + i, n);
        StorePart(d, hn::Mul(factor, value), y + i, n);
      });
    }
  });
}

void ForwardTanhAny(const TanhForwardArgs& args) {
  VisitFloating(args.x.dtype, [&](auto zero) { ForwardTanh<decltype(zero)>(args); });
}
void BackwardTanhAny(const TanhBackwardArgs& args) {
  VisitFloating(args.y.dtype, [&](auto zero) { BackwardTanh<decltype(zero)>(args); });
}

}  // namespace HWY_NAMESPACE
}  // namespace isthmus::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "runtime/status.h"

namespace isthmus::cpu {

HWY_EXPORT(ForwardTanhAny);
HWY_EXPORT(BackwardTanhAny);

absl::Status TanhForward(const TanhForwardArgs& args) {
  HWY_DYNAMIC_DISPATCH(ForwardTanhAny)(args);
  return absl::OkStatus();
}

absl::Status TanhBackward(const TanhBackwardArgs& args) {
  HWY_DYNAMIC_DISPATCH(BackwardTanhAny)(args);
  return absl::OkStatus();
}

}  // namespace isthmus::cpu
#endif  // HWY_ONCE
