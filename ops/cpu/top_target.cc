#include "ops/top_target.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/top_target.cc"
#include <hwy/foreach_target.h>
//
#include <hwy/highway.h>

#include <limits>

#include "ops/cpu/vector-inl.h"
#include "runtime/parallel_for.h"

HWY_BEFORE_NAMESPACE();
namespace isthmus::cpu {
namespace HWY_NAMESPACE {

// Returns the largest of the logits but that of the target, which may lie outside of them.
template <typename T>
T LargestWithout(int64_t target, const T* logits, int64_t count) {
  const hn::ScalableTag<T> d;
  const auto none = hn::Set(d, -std::numeric_limits<T>::infinity());
  // A maximum may drop a NaN, so that these are kept apart.
  auto maximum = none, not_a_number = hn::Zero(d);
  const auto add = [&](const T* some, int64_t number) {
    ForParts(d, number, [&](int64_t i, size_t n) {
      auto z = LoadPart(d, some + i, n);
      if (n < hn::Lanes(d)) z = hn::IfThenElse(hn::FirstN(d, n), z, none);
      maximum = hn::Max(maximum, z);
      not_a_number = hn::IfThenElse(hn::IsNaN(z), z, not_a_number);
    });
  };
  const bool owned = target >= 0 && target < count;
  add(logits, owned ? target : count);
  if (owned) add(logits + target + 1, count - target - 1);
  if (!hn::AllFalse(d, hn::IsNaN(not_a_number))) return std::numeric_limits<T>::quiet_NaN();
  return hn::GetLane(hn::MaxOfLanes(d, maximum));
}

template <typename T>
void Rivals(const TargetRivalsArgs& args) {
  const int32_t* targets = args.targets.As<int32_t>();
  const int64_t count = args.logits.columns;
  ParallelFor(args.logits.rows, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const T* logits = args.logits.Row<T>(row);
      const int64_t target = targets[row] - args.first_row;
      T* rivals = args.rivals.Row<T>(row);
      rivals[0] = target >= 0 && target < count ? logits[target] : -std::numeric_limits<T>::infinity();
      rivals[1] = LargestWithout(target, logits, count);
    }
  });
}

void RivalsAny(const TargetRivalsArgs& args) {
  args.logits.dtype == DType::kFloat64 ? Rivals<double>(args) : Rivals<float>(args);
}

}  // namespace HWY_NAMESPACE
}  // namespace isthmus::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace isthmus::cpu {

HWY_EXPORT(RivalsAny);

namespace {

// Compares with each shard's rivals, so that a NaN among them is never passed by.
template <typename T>
void CompareRivals(const TopTargetsArgs& args) {
  const int64_t tokens = args.top.columns;
  for (int64_t n = 0; n < tokens; ++n) {
    const auto rivals = [&](int64_t shard) { return args.gathered.Row<T>(shard * tokens + n); };
    T target = -std::numeric_limits<T>::infinity();
    for (int64_t shard = 0; shard < args.shards; ++shard) {
      // One shard at most owns the target; its logit may be NaN.
      if (rivals(shard)[0] != -std::numeric_limits<T>::infinity()) target = rivals(shard)[0];
    }
    bool top = true;
    for (int64_t shard = 0; shard < args.shards; ++shard) top = top && target > rivals(shard)[1];
    args.top.As<int32_t>()[n] = top ? 1 : 0;
  }
}

}  // namespace

absl::Status TargetRivals(const TargetRivalsArgs& args) {
  HWY_DYNAMIC_DISPATCH(RivalsAny)(args);
  return absl::OkStatus();
}

absl::Status TopTargets(const TopTargetsArgs& args) {
  args.gathered.dtype == DType::kFloat64 ? CompareRivals<double>(args) : CompareRivals<float>(args);
  return absl::OkStatus();
}

}  // namespace isthmus::cpu
#endif  // HWY_ONCE
