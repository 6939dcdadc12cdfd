#include "ops/rope.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/rope.cc"
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
void Rotate(const RopeArgs& args) {
  using C = ComputeOf<T>;
  const hn::ScalableTag<C> d;
  const int64_t half = args.head_dim / 2, heads = args.x.columns / args.head_dim;
  const auto sign = hn::Set(d, args.inverse ? C{-1} : C{1});
  ParallelFor(args.x.rows, 8, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const C* cosines = args.table.Row<C>(args.first_position + row % args.sequence_length);
      const C* sines = cosines + half;
      for (int64_t head = 0; head < heads; ++head) {
        T* first = args.x.Row<T>(row) + head * args.head_dim;
        T* second = first + half;
        ForParts(d, half, [&](int64_t i, size_t n) {
          const auto a = LoadPart(d, first + i, n), b = LoadPart(d, second + i, n);
          const auto c = LoadPart(d, cosines + i, n), s = hn::Mul(sign, LoadPart(d, sines + i, n));
          StorePart(d, hn::NegMulAdd(b, s, hn::Mul(a, c)), first + i, n);
          StorePart(d, hn::MulAdd(a, s, hn::Mul(b, c)), second + i, n);
        });
      }
    }
  });
}

void RotateAny(const RopeArgs& args) {
  VisitFloating(args.x.dtype, [&](auto zero) { Rotate<decltype(zero)>(args); });
}

}  // namespace HWY_NAMESPACE
}  // namespace isthmus::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "runtime/status.h"

namespace isthmus::cpu {

HWY_EXPORT(RotateAny);

absl::Status Rope(const RopeArgs& args) {
  HWY_DYNAMIC_DISPATCH(RotateAny)(args);
  return absl::OkStatus();
}

}  // namespace isthmus::cpu
#endif  // HWY_ONCE
