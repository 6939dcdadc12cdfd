// Vectors of fp32, fp64 and bf16 values for the SIMD kernels. Loads and stores take up to one vector, so a row's last,
// partial vector goes through the same arithmetic as the others. The bits of an element then do not depend on its place
// in the row.
//
// This file is included once per target (see Highway's foreach_target.h).
#if defined(ISTHMUS_OPS_CPU_VECTOR_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISTHMUS_OPS_CPU_VECTOR_INL_H_
#undef ISTHMUS_OPS_CPU_VECTOR_INL_H_
#else
#define ISTHMUS_OPS_CPU_VECTOR_INL_H_
#endif

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "runtime/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace isthmus::cpu {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// The type in which values of T are computed.
template <typename T>
using ComputeOf = std::conditional_t<std::is_same_v<T, double>, double, float>;

// Elements [p, p + n) as the lanes of a vector, n <= Lanes(d); the other lanes are zero.
template <class D, typename T>
HWY_INLINE hn::Vec<D> LoadPart(D d, const T* p, size_t n) {
  const size_t lanes = hn::Lanes(d);
  if constexpr (std::is_same_v<T, BFloat16>) {
    const hn::Repartition<uint32_t, D> d32;
    const hn::Rebind<uint16_t, D> d16;
    HWY_ALIGN uint16_t part[HWY_MAX_BYTES / 2] = {};
    const uint16_t* bits = reinterpret_cast<const uint16_t*>(p);
    if (n < lanes) {
      std::memcpy(part, bits, n * sizeof(uint16_t));
      bits = part;
    }
    return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(d32, hn::LoadU(d16, bits))));
  } else {
    if (n >= lanes) return hn::LoadU(d, p);
    HWY_ALIGN T part[HWY_MAX_BYTES / sizeof(T)] = {};
    std::memcpy(part, p, n * sizeof(T));
    return hn::Load(d, part);
  }
}

// Writes the first n lanes; to bf16 rounded to nearest even, NaN stays NaN.
template <class D, typename T>
HWY_INLINE void StorePart(D d, hn::Vec<D> value, T* p, size_t n) {
  const size_t lanes = hn::Lanes(d);
  if constexpr (std::is_same_v<T, BFloat16>) {
    const hn::Repartition<uint32_t, D> d32;
    const hn::Rebind<uint16_t, D> d16;
    const auto word = hn::BitCast(d32, value);
    const auto odd = hn::And(hn::ShiftRight<16>(word), hn::Set(d32, 1));
    const auto rounded = hn::Add(word, hn::Add(odd, hn::Set(d32, 0x7fff)));
    const auto quiet = hn::Or(word, hn::Set(d32, 0x400000));
    const auto nan = hn::RebindMask(d32, hn::IsNaN(value));
    const auto bits = hn::TruncateTo(d16, hn::ShiftRight<16>(hn::IfThenElse(nan, quiet, rounded)));
    uint16_t* out = reinterpret_cast<uint16_t*>(p);
    if (n >= lanes) {
      hn::StoreU(bits, d16, out);
    } else {
      HWY_ALIGN uint16_t part[HWY_MAX_BYTES / 2];
      hn::StoreU(bits, d16, part);
      std::memcpy(out, part, n * sizeof(uint16_t));
    }
  } else if (n >= lanes) {
    hn::StoreU(value, d, p);
  } else {
    HWY_ALIGN T part[HWY_MAX_BYTES / sizeof(T)];
    hn::Store(value, d, part);
    std::memcpy(p, part, n * sizeof(T));
  }
}

// Calls body(i, n) for i = 0, Lanes(d), …; each call covers n elements from i on.
template <class D, typename Body>
HWY_INLINE void ForParts(D d, int64_t count, const Body& body) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) body(i, static_cast<size_t>(lanes));
  if (i < count) body(i, static_cast<size_t>(count - i));
}

// exp(x). Highway's own gives 0 for an fp32 NaN, which would hide it from every later check.
template <class D>
HWY_INLINE hn::Vec<D> ExpOrNaN(D d, hn::Vec<D> x) {
  return hn::IfThenElse(hn::IsNaN(x), x, hn::Exp(d, x));
}

template <class D>
HWY_INLINE hn::TFromD<D> SumLanes(D d, hn::Vec<D> value) {
  return hn::GetLane(hn::SumOfLanes(d, value));
}

}  // namespace HWY_NAMESPACE
}  // namespace isthmus::cpu
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
