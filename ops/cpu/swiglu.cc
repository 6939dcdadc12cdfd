#include "ops/swiglu.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/swiglu.cc"
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

// Logistic function. It takes exp of negative numbers only: Highway's fp32 exp of a large number is meaningless instead
// of infinite.
template <class D>
HWY_INLINE hn::Vec<D> Sigmoid(D d, hn::Vec<D> x) {
  const auto one = hn::Set(d, 1);
  const auto e = ExpOrNaN(d, hn::Neg(hn::Abs(x)));
  return hn::Div(hn::IfThenElse(hn::Ge(x, hn::Zero(d)), one, e), hn::Add(one, e));
}

template <typename T>
void Forward(const SwigluForwardArgs& args) {
  const hn::ScalableTag<ComputeOf<T>> d;
  const int64_t features = args.y.columns;
  ParallelFor(args.y.rows, 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const T *gate = args.gate_up.Row<T>(row), *up = gate + features;
      T* y = args.y.Row<T>(row);
      ForParts(d, features, [&](int64_t i, size_t n) {
        const auto g = LoadPart(d, gate + i, n);
        StorePart(d, hn::Mul(hn::Mul(g, Sigmoid(d, g)), LoadPart(d, up + i, n)), y + i, n);
      });
    }
  });
}

template <typename T>
void Backward(const SwigluBackwardArgs& args) {
  const hn::ScalableTag<ComputeOf<T>> d;
  const int64_t features = args.grad_y.columns;
  const auto one = hn::Set(d, 1);
  ParallelFor(args.grad_y.rows, 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const T *gate = args.gate_up.Row<T>(row), *up = gate + features, *grad_y = args.grad_y.Row<T>(row);
      T *grad_gate = args.grad_gate_up.Row<T>(row), *grad_up = grad_gate + features;
      T* y = args.y.defined() ? args.y.Row<T>(row) : nullptr;
      ForParts(d, features, [&](int64_t i, size_t n) {
        const auto g = LoadPart(d, gate + i, n), u = LoadPart(d, up + i, n), dy = LoadPart(d, grad_y + i, n);
        const auto sigmoid = Sigmoid(d, g);
        const auto silu = hn::Mul(g, sigmoid);
        // d silu / d gate = sigmoid (1 + gate (1 - sigmoid))
        const auto slope = hn::Mul(sigmoid, hn::MulAdd(g, hn::Sub(one, sigmoid), one));
        StorePart(d, hn::Mul(hn::Mul(dy, u), slope), grad_gate + i, n);
        StorePart(d, hn::Mul(dy, silu), grad_up + i, n);
        if (y != nullptr) StorePart(d, hn::Mul(silu, u), y + i, n);
      });
    }
  });
}

void ForwardAny(const SwigluForwardArgs& args) {
  VisitFloating(args.y.dtype, [&](auto zero) { Forward<decltype(zero)>(args); });
}
void BackwardAny(const SwigluBackwardArgs& args) {
  VisitFloating(args.grad_y.dtype, [&](auto zero) { Backward<decltype(zero)>(args); });
}

}  // namespace HWY_NAMESPACE
}  // namespace isthmus::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "runtime/status.h"

namespace isthmus::cpu {

HWY_EXPORT(ForwardAny);
HWY_EXPORT(BackwardAny);

absl::Status SwigluForward(const SwigluForwardArgs& args) {
  HWY_DYNAMIC_DISPATCH(ForwardAny)(args);
  return absl::OkStatus();
}

absl::Status SwigluBackward(const SwigluBackwardArgs& args) {
  HWY_DYNAMIC_DISPATCH(BackwardAny)(args);
  return absl::OkStatus();
}

}  // namespace isthmus::cpu
#endif  // HWY_ONCE
