#include "ops/rms_norm.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/rms_norm.cc"
#include <hwy/foreach_target.h>
//
#include <hwy/highway.h>

#include <cmath>
#include <limits>

#include "ops/cpu/vector-inl.h"
#include "ops/cpu/visit.h"
#include "runtime/parallel_for.h"

HWY_BEFORE_NAMESPACE();
namespace isthmus::cpu {
namespace HWY_NAMESPACE {

template <typename T>
void Forward(const RmsNormForwardArgs& args) {
  using C = ComputeOf<T>;
  const hn::ScalableTag<C> d;
  const int64_t width = args.x.columns;
  const T* weight = args.weight.As<T>();
  ParallelFor(args.x.rows, 8, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const T* x = args.x.Row<T>(row);
      auto squares = hn::Zero(d);
      if (args.addend.defined()) {
        const T* addend = args.addend.Row<T>(row);
        T* sum = args.sum.Row<T>(row);
        ForParts(d, width, [&](int64_t i, size_t n) {
          StorePart(d, hn::Add(LoadPart(d, x + i, n), LoadPart(d, addend + i, n)), sum + i, n);
          const auto s = LoadPart(d, sum + i, n);
          squares = hn::MulAdd(s, s, squares);
        });
        x = sum;
      } else {
        ForParts(d, width, [&](int64_t i, size_t n) {
          const auto s = LoadPart(d, x + i, n);
          squares = hn::MulAdd(s, s, squares);
        });
      }
      const C mean = SumLanes(d, squares) / static_cast<C>(width);
      C inverse = C{1} / std::sqrt(mean + static_cast<C>(args.epsilon));
      if (inverse == 0) inverse = std::numeric_limits<C>::quiet_NaN();  // the mean is infinite
      args.inverse.As<C>()[row] = inverse;
      T* y = args.y.Row<T>(row);
      const auto scale = hn::Set(d, inverse);
      ForParts(d, width, [&](int64_t i, size_t n) {
        const auto normed = hn::Mul(LoadPart(d, x + i, n), scale);
        StorePart(d, hn::Mul(normed, LoadPart(d, weight + i, n)), y + i, n);
      });
    }
  });
}

template <typename T>
void BackwardRow(const RmsNormBackwardArgs& args, int64_t row, ComputeOf<T>* grad_weight) {
  using C = ComputeOf<T>;
  const hn::ScalableTag<C> d;
  const int64_t width = args.x.columns;
  const T *grad_y = args.grad_y.Row<T>(row), *x = args.x.Row<T>(row), *weight = args.weight.As<T>();
  T* grad_x = args.grad_x.Row<T>(row);
  const C inverse = args.inverse.As<C>()[row];
  const auto scale = hn::Set(d, inverse);
  auto dot = hn::Zero(d);
  ForParts(d, width, [&](int64_t i, size_t n) {
    const auto gy = LoadPart(d, grad_y + i, n), s = LoadPart(d, x + i, n);
    dot = hn::MulAdd(hn::Mul(gy, LoadPart(d, weight + i, n)), s, dot);
    StorePart(d, hn::MulAdd(hn::Mul(gy, s), scale, LoadPart(d, grad_weight + i, n)), grad_weight + i, n);
  });
  const C mean = SumLanes(d, dot) / static_cast<C>(width);
  const auto correction = hn::Set(d, inverse * inverse * mean);
  ForParts(d, width, [&](int64_t i, size_t n) {
    const auto g = hn::Mul(LoadPart(d, grad_y + i, n), LoadPart(d, weight + i, n));
    auto gradient = hn::Mul(scale, hn::NegMulAdd(LoadPart(d, x + i, n), correction, g));
    if (args.accumulate) gradient = hn::Add(gradient, LoadPart(d, grad_x + i, n));
    StorePart(d, gradient, grad_x + i, n);
  });
}

template <typename T>
void Backward(const RmsNormBackwardArgs& args) {
  using C = ComputeOf<T>;
  const int64_t width = args.x.columns, blocks = RmsNormWorkspaceRows(args.x.rows);
  ParallelFor(blocks, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t block = begin; block < end; ++block) {
      C* partial = args.workspace.Row<C>(block);
      std::fill(partial, partial + width, C{0});
      for (int64_t row = block * kRmsNormRowBlock; row < std::min((block + 1) * kRmsNormRowBlock, args.x.rows); ++row) {
        BackwardRow<T>(args, row, partial);
      }
    }
  });
  C* grad_weight = args.grad_weight.As<C>();
  for (int64_t block = 0; block < blocks; ++block) {
    const C* partial = args.workspace.Row<C>(block);
    for (int64_t i = 0; i < width; ++i) grad_weight[i] += partial[i];
  }
}

void ForwardAny(const RmsNormForwardArgs& args) {
  VisitFloating(args.x.dtype, [&](auto zero) { Forward<decltype(zero)>(args); });
}
void BackwardAny(const RmsNormBackwardArgs& args) {
  VisitFloating(args.x.dtype, [&](auto zero) { Backward<decltype(zero)>(args); });
}

}  // namespace HWY_NAMESPACE
}  // namespace isthmus::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "runtime/status.h"

namespace isthmus::cpu {

HWY_EXPORT(ForwardAny);
HWY_EXPORT(BackwardAny);

absl::Status RmsNormForward(const RmsNormForwardArgs& args) {
  HWY_DYNAMIC_DISPATCH(ForwardAny)(args);
  return absl::OkStatus();
}

absl::Status RmsNormBackward(const RmsNormBackwardArgs& args) {
  HWY_DYNAMIC_DISPATCH(BackwardAny)(args);
  return absl::OkStatus();
}

}  // namespace isthmus::cpu
#endif  // HWY_ONCE
