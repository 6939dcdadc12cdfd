#include "ops/layer_norm.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/layer_norm.cc"
#include <hwy/foreach_target.h>
//
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "ops/cpu/vector-inl.h"
#include "ops/cpu/visit.h"
#include "runtime/parallel_for.h"

HWY_BEFORE_NAMESPACE();
namespace isthmus::cpu {
namespace HWY_NAMESPACE {

// Elements [p, p + n) less the mean; the other lanes are zero.
template <class D, typename T>
HWY_INLINE hn::Vec<D> Centred(D d, const T* p, size_t n, hn::Vec<D> mean) {
  return hn::IfThenElseZero(hn::FirstN(d, n), hn::Sub(LoadPart(d, p, n), mean));
}

// Returns the row that is normalised, and its mean.
template <typename T>
std::pair<const T*, ComputeOf<T>> LayerNormRow(const LayerNormForwardArgs& args, int64_t row) {
  using C = ComputeOf<T>;
  const hn::ScalableTag<C> d;
  const int64_t width = args.x.columns;
  const T* x = args.x.Row<T>(row);
  auto total = hn::Zero(d);
  if (args.addend.defined()) {
    const T* addend = args.addend.Row<T>(row);
    T* sum = args.sum.Row<T>(row);
    ForParts(d, width, [&](int64_t i, size_t n) {
      StorePart(d, hn::Add(LoadPart(d, x + i, n), LoadPart(d, addend + i, n)), sum + i, n);
      total = hn::Add(total, LoadPart(d, sum + i, n));
    });
    x = sum;
  } else {
    ForParts(d, width, [&](int64_t i, size_t n) { total = hn::Add(total, LoadPart(d, x + i, n)); });
  }
  return {x, SumLanes(d, total) / static_cast<C>(width)};
}

template <typename T>
void LayerNormForwardOf(const LayerNormForwardArgs& args) {
  using C = ComputeOf<T>;
  const hn::ScalableTag<C> d;
  const int64_t width = args.x.columns;
  const T *weight = args.weight.As<T>(), *bias = args.bias.As<T>();
  ParallelFor(args.x.rows, 8, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const std::pair<const T*, C> entrance = LayerNormRow<T>(args, row);
      const T* s = entrance.first;
      const C mean = entrance.second;
      const auto centre = hn::Set(d, mean);
      auto squares = hn::Zero(d);
      ForParts(d, width, [&](int64_t i, size_t n) {
        const auto left = Centred(d, s + i, n, centre);
        squares = hn::MulAdd(left, left, squares);
      });
      const C variance = SumLanes(d, squares) / static_cast<C>(width);
      C inverse = C{1} / std::sqrt(variance + static_cast<C>(args.epsilon));
      if (inverse == 0) inverse = std::numeric_limits<C>::quiet_NaN();  // the variance is infinite
      args.statistics.Row<C>(0)[row] = mean;
      args.statistics.Row<C>(1)[row] = inverse;
      T* y = args.y.Row<T>(row);
      const auto scale = hn::Set(d, inverse);
      ForParts(d, width, [&](int64_t i, size_t n) {
        const auto normed = hn::Mul(Centred(d, s + i, n, centre), scale);
        StorePart(d, hn::MulAdd(normed, LoadPart(d, weight + i, n), LoadPart(d, bias + i, n)), y + i, n);
      });
    }
  });
}

template <typename T>
void LayerNormBackwardRow(const LayerNormBackwardArgs& args, int64_t row, ComputeOf<T>* grad_weight,
                          ComputeOf<T>* grad_bias) {
  using C = ComputeOf<T>;
  const hn::ScalableTag<C> d;
  const int64_t width = args.x.columns;
  const T *grad_y = args.grad_y.Row<T>(row), *x = args.x.Row<T>(row), *weight = args.weight.As<T>();
  T* grad_x = args.grad_x.Row<T>(row);
  const auto centre = hn::Set(d, args.statistics.Row<C>(0)[row]), scale = hn::Set(d, args.statistics.Row<C>(1)[row]);
  auto total = hn::Zero(d), dot = hn::Zero(d);
  ForParts(d, width, [&](int64_t i, size_t n) {
    const auto gy = LoadPart(d, grad_y + i, n), normed = hn::Mul(Centred(d, x + i, n, centre), scale);
    const auto g = hn::Mul(gy, LoadPart(d, weight + i, n));
    total = hn::Add(total, g);
    dot = hn::MulAdd(g, normed, dot);
    StorePart(d, hn::MulAdd(gy, normed, LoadPart(d, grad_weight + i, n)), grad_weight + i, n);
    StorePart(d, hn::Add(gy, LoadPart(d, grad_bias + i, n)), grad_bias + i, n);
  });
  const auto mean = hn::Set(d, SumLanes(d, total) / static_cast<C>(width));
  const auto along = hn::Set(d, SumLanes(d, dot) / static_cast<C>(width));
  ForParts(d, width, [&](int64_t i, size_t n) {
    const auto g = hn::Mul(LoadPart(d, grad_y + i, n), LoadPart(d, weight + i, n));
    const auto normed = hn::Mul(Centred(d, x + i, n, centre), scale);
    auto gradient = hn::Mul(scale, hn::NegMulAdd(normed, along, hn::Sub(g, mean)));
    if (args.accumulate) gradient = hn::Add(gradient, LoadPart(d, grad_x + i, n));
    StorePart(d, gradient, grad_x + i, n);
  });
}

template <typename T>
void LayerNormBackwardOf(const LayerNormBackwardArgs& args) {
  using C = ComputeOf<T>;
  const int64_t width = args.x.columns, blocks = LayerNormWorkspaceRows(args.x.rows) / 2;
  ParallelFor(blocks, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t block = begin; block < end; ++block) {
      C *weight = args.workspace.Row<C>(block), *bias = args.workspace.Row<C>(blocks + block);
      std::fill(weight, weight + width, C{0});
      std::fill(bias, bias + width, C{0});
      const int64_t last = std::min((block + 1) * kLayerNormRowBlock, args.x.rows);
      for (int64_t row = block * kLayerNormRowBlock; row < last; ++row) {
        LayerNormBackwardRow<T>(args, row, weight, bias);
      }
    }
  });
  C *grad_weight = args.grad_weight.As<C>(), *grad_bias = args.grad_bias.As<C>();
  for (int64_t block = 0; block < blocks; ++block) {
    const C *weight = args.workspace.Row<C>(block), *bias = args.workspace.Row<C>(blocks + block);
    for (int64_t i = 0; i < width; ++i) {
      grad_weight[i] += weight[i];
      grad_bias[i] += bias[i];
    }
  }
}

void LayerNormForwardAny(const LayerNormForwardArgs& args) {
  VisitFloating(args.x.dtype, [&](auto zero) { LayerNormForwardOf<decltype(zero)>(args); });
}
void LayerNormBackwardAny(const LayerNormBackwardArgs& args) {
  VisitFloating(args.x.dtype, [&](auto zero) { LayerNormBackwardOf<decltype(zero)>(args); });
}

}  // namespace HWY_NAMESPACE
}  // namespace isthmus::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "runtime/status.h"

namespace isthmus::cpu {

HWY_EXPORT(LayerNormForwardAny);
HWY_EXPORT(LayerNormBackwardAny);

absl::Status LayerNormForward(const LayerNormForwardArgs& args) {
  HWY_DYNAMIC_DISPATCH(LayerNormForwardAny)(args);
  return absl::OkStatus();
}

absl::Status LayerNormBackward(const LayerNormBackwardArgs& args) {
  HWY_DYNAMIC_DISPATCH(LayerNormBackwardAny)(args);
  return absl::OkStatus();
}

}  // namespace isthmus::cpu
#endif  // HWY_ONCE
