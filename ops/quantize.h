// Quantisation of a matrix to 8-bit floating point with one scale for all of it, by its own largest magnitude
// (Micikevicius et al. 2022, arXiv:2209.05433, section 3), for ops/fp8_matmul.h.
//
//   y[n, d] = x[n, d] · 2^s rounded,   transposed = yᵀ,   inverse = 2^-s
//
//   x           [N, D]  fp32 | bf16
//   y           [N, D]  fp8_e4m3 | fp8_e5m2; may be left out
//   transposed  [D, N]  dtype of y; may be left out, but not both
//   inverse     fp32 [1, 1], in memory of the stream's device
//
// s is the largest integer with which the largest magnitude of x does not exceed the largest number of y's type, and at
// most 126; 0 for a matrix of zeros. A power of two rather than the exact ratio: scaling and its undoing are then
// exact, of the range less than one binade is lost and of the precision nothing, and shards of a matrix, whose largest
// magnitudes differ, mostly get the same numbers as the whole. Where x holds NaN or infinity every element and
// `inverse` are NaN, so that a run that diverges is noticed.
//
// Any row stride. Errors: InvalidArgument when shapes or dtypes disagree. Deterministic for any number of threads; the
// host waits for nothing. Cost: x is read twice, what is asked for is written once.
#ifndef ISTHMUS_OPS_QUANTIZE_H_
#define ISTHMUS_OPS_QUANTIZE_H_

#include <absl/status/status.h>

#include <bit>
#include <cstdint>

#include "runtime/operator_cost.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

struct QuantizeArgs {
  ConstTensor x;
  Tensor y;
  Tensor transposed;
  Tensor inverse;

  OperatorCost Cost() const;
};

absl::Status Quantize(const QuantizeArgs& args, Stream& stream);

// 2^s and 2^-s.
struct Float8Scale {
  float scale;
  float inverse;
};

// For numbers up to a magnitude, given as the bits of an fp32: of magnitudes the larger one has the larger bits, and
// NaN the largest. F is Float8E4M3 or Float8E5M2. Both backends use it.
template <typename F>
constexpr Float8Scale ScaleOf(uint32_t largest_bits) {
  constexpr uint32_t kInfinity = 0x7f800000u, kNaN = 0x7fc00000u, kMantissa = 0x7fffffu;
  constexpr int kMost = 126;  // the inverse is a normal number then
  if (largest_bits >= kInfinity) return {std::bit_cast<float>(kNaN), std::bit_cast<float>(kNaN)};
  if (largest_bits == 0) return {1.0F, 1.0F};
  const int exponent = static_cast<int>(largest_bits >> 23) - 127;
  const bool above = (largest_bits & kMantissa) > 0x600000u;  // its significand exceeds 1.75
  int s = F::kLargestExponent - exponent - (above ? 1 : 0);
  s = s < kMost ? s : kMost;
  return {std::bit_cast<float>(static_cast<uint32_t>(127 + s) << 23),
          std::bit_cast<float>(static_cast<uint32_t>(127 - s) << 23)};
}

// The implementations, which take checked arguments.
namespace cpu {
absl::Status Quantize(const QuantizeArgs& args);
}  // namespace cpu
namespace cuda {
absl::Status Quantize(const QuantizeArgs& args, const Context& context);
}  // namespace cuda

}  // namespace isthmus

#endif  // ISTHMUS_OPS_QUANTIZE_H_
