// Element types of tensors.
#ifndef ISTHMUS_RUNTIME_DTYPE_H_
#define ISTHMUS_RUNTIME_DTYPE_H_

#include <bit>
#include <cstdint>
#include <string_view>

namespace isthmus {

enum class DType : uint8_t { kFloat32, kBFloat16, kFloat64, kInt32, kUInt8 };

// The upper 16 bits of an IEEE binary32; arithmetic is done in float.
struct BFloat16 {
  uint16_t bits = 0;

  BFloat16() = default;
  // Rounds to nearest, ties to even; NaN stays NaN.
  constexpr explicit BFloat16(float value) : bits(Round(value)) {}
  // Rounds once: by way of a float the value could first become a tie. The float is rounded to odd, which no later tie
  // can come from (Boldo & Melquiond 2008, "Emulation of FMA and correctly rounded sums").
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
  }
  return "unknown";
}

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

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_DTYPE_H_
