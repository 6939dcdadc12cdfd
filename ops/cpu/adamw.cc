#include "ops/adamw.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/adamw.cc"
#include <hwy/foreach_target.h>
//
#include <hwy/highway.h>

#include <cmath>

#include "ops/cpu/vector-inl.h"
#include "ops/cpu/visit.h"
#include "runtime/parallel_for.h"

HWY_BEFORE_NAMESPACE();
namespace isthmus::cpu {
namespace HWY_NAMESPACE {

// The larger of `a` and `b`; NaN if either is. Highway's Max may drop a NaN.
template <class V>
HWY_INLINE V MaxOrNaN(V a, V b) {
  return hn::IfThenElse(hn::Or(hn::Gt(a, b), hn::IsNaN(a)), a, b);
}

template <typename T>
void Update(const AdamWArgs& args) {
  const hn::ScalableTag<T> d;
  const auto step = static_cast<double>(args.step);
  const auto set = [&](double value) { return hn::Set(d, static_cast<T>(value)); };
  const auto beta1 = set(args.beta1), beta2 = set(args.beta2);
  const auto rest1 = set(1 - args.beta1), rest2 = set(1 - args.beta2);
  const double correction1 = 1 - std::pow(args.beta1, step);
  const auto rate = set(args.learning_rate / correction1);
  const auto decay = set(args.weight_decay * correction1);  // multiplied by `rate` it is the decay
  const auto correction = set(1 / std::sqrt(1 - std::pow(args.beta2, step)));
  const auto epsilon = set(args.epsilon), grad_scale = set(args.grad_scale);
  T *weight = args.weight.As<T>(), *first = args.first_moment.As<T>(), *second = args.second_moment.As<T>();
  T* maximum = args.max_second_moment.As<T>();
  const T* grad = args.grad.As<T>();
  BFloat16* compute = args.compute_weight.As<BFloat16>();
  ParallelFor(args.weight.columns, 16384, [&](int64_t begin, int64_t end, int) {
    ForParts(d, end - begin, [&](int64_t offset, size_t n) {
      const int64_t i = begin + offset;
      const auto g = hn::Mul(LoadPart(d, grad + i, n), grad_scale);
      const auto m = hn::MulAdd(beta1, LoadPart(d, first + i, n), hn::Mul(rest1, g));
      const auto v = hn::MulAdd(beta2, LoadPart(d, second + i, n), hn::Mul(rest2, hn::Mul(g, g)));
      auto largest = v;
      if (maximum != nullptr) {
        largest = MaxOrNaN(LoadPart(d, maximum + i, n), v);
        StorePart(d, largest, maximum + i, n);
      }
      const auto denominator = hn::MulAdd(hn::Sqrt(largest), correction, epsilon);
      const auto before = LoadPart(d, weight + i, n);
      const auto w = hn::NegMulAdd(rate, hn::MulAdd(decay, before, hn::Div(m, denominator)), before);
      StorePart(d, m, first + i, n);
      StorePart(d, v, second + i, n);
      StorePart(d, w, weight + i, n);
      if (compute == nullptr) return;
      if constexpr (std::is_same_v<T, float>) {
        StorePart(d, w, compute + i, n);
      } else {
        for (int64_t k = i; k < i + static_cast<int64_t>(n); ++k) compute[k] = BFloat16::FromDouble(weight[k]);
      }
    });
  });
}

void UpdateAny(const AdamWArgs& args) {
  args.weight.dtype == DType::kFloat64 ? Update<double>(args) : Update<float>(args);
}

}  // namespace HWY_NAMESPACE
}  // namespace isthmus::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "runtime/status.h"

namespace isthmus::cpu {

HWY_EXPORT(UpdateAny);

absl::Status AdamW(const AdamWArgs& args) {
  HWY_DYNAMIC_DISPATCH(UpdateAny)(args);
  return absl::OkStatus();
}

}  // namespace isthmus::cpu
#endif  // HWY_ONCE
