#include "ops/weight_step.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/weight_step.cc"
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
void Step(const WeightStepArgs& args) {
  const hn::ScalableTag<T> d;
  const auto set = [&](double value) { return hn::Set(d, static_cast<T>(value)); };
  const auto rate = set(args.learning_rate), scale = set(args.scale), decay = set(args.weight_decay);
  T* weight = args.weight.As<T>();
  const T* direction = args.direction.As<T>();
  BFloat16* compute = args.compute_weight.As<BFloat16>();
  ParallelFor(args.weight.columns, 16384, [&](int64_t begin, int64_t end, int) {
    ForParts(d, end - begin, [&](int64_t offset, size_t n) {
      const int64_t i = begin + offset;
      const auto before = LoadPart(d, weight + i, n);
      const auto change = hn::MulAdd(decay, before, hn::Mul(scale, LoadPart(d, direction + i, n)));
      const auto w = hn::NegMulAdd(rate, change, before);
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

void StepAny(const WeightStepArgs& args) {
  args.weight.dtype == DType::kFloat64 ? Step<double>(args) : Step<float>(args);
}

}  // namespace HWY_NAMESPACE
}  // namespace isthmus::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "runtime/status.h"

namespace isthmus::cpu {

HWY_EXPORT(StepAny);

absl::Status WeightStep(const WeightStepArgs& args) {
  HWY_DYNAMIC_DISPATCH(StepAny)(args);
  return absl::OkStatus();
}

}  // namespace isthmus::cpu
#endif  // HWY_ONCE
