// Element types of tensors.
#ifndef ISTHMUS_RUNTIME_DTYPE_H_
#define ISTHMUS_RUNTIME_DTYPE_H_

#include <bit>
#include <cstdint>
#include <string_view>

namespace isthmus {

enum class DType : uint8_t { kFloat32, kBFloat16, kFloat64, kInt32, kUInt8, kFloat8E4M3, kFloat8E5M2 };

// The upper 16 bits of an IEEE binary32. Arithmetic is done in float.
struct BFloat16 {
  uint16_t bits = 0;

  BFloat16() = default;
  // Rounds to nearest, ties to even; NaN stays NaN.
  constexpr explicit BFloat16(float value) : bits(Round(value)) {}
  // Rounds once, because by way of a float the value could first become a tie. The float is rounded to odd, from which
  // no later tie can come (Boldo & Melquiond 2008, "Emulation of FMA and correctly rounded sums").
  static constexpr BFloat16 FromDouble(double value) {
    auto narrow = static_cast<float>(value);
    const double back = narrow;
    uint32_t word = std::bit_cast<uint32_t>(narrow);
    if (back != value && value == value && (word & 1u) == 0 && (word & 0x7f800000u) != 0x7f800000u) {
      const bool away = value > 0 ? value > back : value < back;
      narrow = std::bit_cast<float>(away ? word + 1 : word - 1);
    }
    return BFloat16(narrow);
  }
  constexpr explicit operator float() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

 private:
  static constexpr uint16_t Round(float value) {
    const uint32_t word = std::bit_cast<uint32_t>(value);
    if ((word & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((word >> 16) | 0x40u);
    return static_cast<uint16_t>((word + 0x7fffu + ((word >> 16) & 1u)) >> 16);
  }
};
static_assert(sizeof(BFloat16) == 2);

// Numbers of 8 bits (Micikevicius et al. 2022, arXiv:2209.05433; Open Compute Project OFP8): sign, exponent, mantissa.
// They are stored and multiplied, not computed with. Conversion from float rounds to nearest, ties to even, and
// saturates: anything larger than the largest finite number, infinity too, becomes that number. NaN stays NaN.
template <int kExponentBits, int kMantissaBits, uint8_t kLargestCode>
struct Float8 {
  static constexpr int kBias = (1 << (kExponentBits - 1)) - 1;
  // The largest finite number is 1.75 · 2^kLargestExponent.
  static constexpr int kLargestExponent = (kLargestCode >> kMantissaBits) - kBias;
  static constexpr uint8_t kNaNCode = 0x7f;

  uint8_t bits = 0;

  Float8() = default;
  constexpr explicit Float8(float value) : bits(Round(value)) {}
  constexpr explicit operator float() const {
    const uint32_t sign = static_cast<uint32_t>(bits & 0x80u) << 24, magnitude = bits & 0x7fu;
    if (magnitude > kLargestCode) {
      // Only the format with infinities has a code between the largest number and the NaNs.
      const bool infinite = kHasInfinity && magnitude == kLargestCode + 1u;
      return std::bit_cast<float>(sign | (infinite ? 0x7f800000u : 0x7fc00000u));
    }
    if (magnitude < kSmallestNormalCode) {
      return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(static_cast<float>(magnitude) * kUnit));
    }
    return std::bit_cast<float>(sign | ((magnitude << kShift) + kRebias));
  }

 private:
  static constexpr int kShift = 23 - kMantissaBits;
  static constexpr uint32_t kRebias = static_cast<uint32_t>(127 - kBias) << 23;
  static constexpr uint32_t kSmallestNormalCode = 1u << kMantissaBits;
  static constexpr bool kHasInfinity = kLargestCode + 1 < kNaNCode;
  // The smallest subnormal number, and the float whose last bit is worth as much.
  static constexpr float kUnit = std::bit_cast<float>(static_cast<uint32_t>(128 - kBias - kMantissaBits) << 23);
  static constexpr float kUnitIsLastBit = kUnit * 0x1p23f;

  static constexpr uint8_t Round(float value) {
    const uint32_t word = std::bit_cast<uint32_t>(value), magnitude = word & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return kNaNCode;
    uint32_t code = 0;
    if (magnitude < (kSmallestNormalCode << kShift) + kRebias) {
      const float sum = std::bit_cast<float>(magnitude) + kUnitIsLastBit;  // the addition rounds
      code = std::bit_cast<uint32_t>(sum) - std::bit_cast<uint32_t>(kUnitIsLastBit);
    } else {
      const uint32_t half = (1u << (kShift - 1)) - 1 + ((magnitude >> kShift) & 1u);
      code = (magnitude + half - kRebias) >> kShift;
    }
    if (code > kLargestCode) code = kLargestCode;
    return static_cast<uint8_t>(((word >> 24) & 0x80u) | code);
  }
};
using Float8E4M3 = Float8<4, 3, 0x7e>;  // to 448, steps of 1/8; no infinity
using Float8E5M2 = Float8<5, 2, 0x7b>;  // to 57344, steps of 1/4
static_assert(sizeof(Float8E4M3) == 1 && sizeof(Float8E5M2) == 1);

// Bytes of one element.
constexpr int64_t SizeOf(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      return 8;
    case DType::kFloat32:
    case DType::kInt32:
      return 4;
    case DType::kBFloat16:
      return 2;
    case DType::kUInt8:
    case DType::kFloat8E4M3:
    case DType::kFloat8E5M2:
      return 1;
  }
  return 0;
}

constexpr std::string_view Name(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      return "fp64";
    case DType::kFloat32:
      return "fp32";
    case DType::kBFloat16:
      return "bf16";
    case DType::kInt32:
      return "int32";
    case DType::kUInt8:
      return "uint8";
    case DType::kFloat8E4M3:
      return "fp8_e4m3";
    case DType::kFloat8E5M2:
      return "fp8_e5m2";
  }
  return "unknown";
}

constexpr bool IsFloat8(DType dtype) { return dtype == DType::kFloat8E4M3 || dtype == DType::kFloat8E5M2; }

// The type in which sums, statistics and gradients of values of `dtype` are kept: fp64 for fp64, else fp32.
constexpr DType AccumulationType(DType dtype) { return dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32; }

template <typename T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::kFloat32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::kFloat64;
};
template <>
struct DTypeOf<BFloat16> {
  static constexpr DType value = DType::kBFloat16;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::kInt32;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr DType value = DType::kUInt8;
};
template <>
struct DTypeOf<Float8E4M3> {
  static constexpr DType value = DType::kFloat8E4M3;
};
template <>
struct DTypeOf<Float8E5M2> {
  static constexpr DType value = DType::kFloat8E5M2;
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_DTYPE_H_
