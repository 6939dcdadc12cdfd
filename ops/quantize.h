// Quantisation of a matrix to 8-bit floating point, for ops/fp8_matmul.h. The whole matrix has one scale, set by its
// own largest magnitude (Micikevicius et al. 2022, arXiv:2209.05433, section 3).
//
//   y[n, d] = x[n, d] · 2^s rounded,   transposed = yᵀ,   inverse = 2^-s
//
//   x           [N, D]  fp32 | bf16
//   y           [N, D]  fp8_e4m3 | fp8_e5m2; may be left out
//   transposed  [D, N]  dtype of y; may be left out, but not both
//   inverse     fp32 [1, 1], in memory of the stream's device
//
// s is the largest integer, at most 126, with which the largest magnitude of x does not exceed the largest number of
// y's type. For a matrix of zeros it is 0. It is a power of two rather than the exact ratio, so scaling and its undoing
// are exact. Less than one binade of the range is lost and none of the precision. Shards of a matrix differ in their
// largest magnitudes, but mostly get the same numbers as the whole. If x holds NaN or infinity, every element and
// `inverse` are NaN, so that a run that diverges is noticed.
//
// Rows may have any stride. The result is deterministic for any number of threads; the host waits for nothing. Errors:
// InvalidArgument when shapes or dtypes disagree. Cost: x is read twice, and each requested output is written once.
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

// Returns the scale for numbers up to a magnitude, which is given as the bits of an fp32. A larger magnitude has larger
// bits, and NaN has the largest. F is Float8E4M3 or Float8E5M2. Both backends use this function.
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

// The implementations take checked arguments.
namespace cpu {
absl::Status Quantize(const QuantizeArgs& args);
}  // namespace cpu
namespace cuda {
absl::Status Quantize(const QuantizeArgs& args, const Context& context);
}  // namespace cuda

}  // namespace isthmus

#endif  // ISTHMUS_OPS_QUANTIZE_H_
