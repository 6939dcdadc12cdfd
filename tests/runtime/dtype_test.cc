#include "runtime/dtype.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "runtime/philox.h"

namespace isthmus {
namespace {

// Returns the nearest number with 8 significant bits, and an exponent no lower than that of binary32, ties to even. It
// scales in double, where the value is exact, and uses the C library's rounding.
double NearestBFloat16(float value) {
  if (value == 0.0f || !std::isfinite(value)) return value;
  int exponent = 0;
  std::frexp(static_cast<double>(value), &exponent);
  const int last_bit = std::max(exponent - 8, -133);
  const double rounded = std::ldexp(std::nearbyint(std::ldexp(static_cast<double>(value), -last_bit)), last_bit);
  return std::abs(rounded) >= 0x1p128 ? std::copysign(std::numeric_limits<double>::infinity(), rounded) : rounded;
}

float Rounded(float value) { return static_cast<float>(BFloat16(value)); }
float FromBits(uint32_t bits) { return std::bit_cast<float>(bits); }

// Drops the lower bits; the tests must tell that from rounding.
float Truncated(float value) { return FromBits(std::bit_cast<uint32_t>(value) & 0xffff0000u); }

TEST(BFloat16, EveryBitPatternSurvivesTheWayThroughFloat) {
  for (uint32_t pattern = 0; pattern <= 0xffff; ++pattern) {
    BFloat16 value;
    value.bits = static_cast<uint16_t>(pattern);
    const BFloat16 back(static_cast<float>(value));
    if (std::isnan(static_cast<float>(value))) {
      EXPECT_TRUE(std::isnan(static_cast<float>(back))) << std::hex << pattern;
      EXPECT_EQ(back.bits & 0x8000, value.bits & 0x8000) << std::hex << pattern;
    } else {
      EXPECT_EQ(back.bits, value.bits) << std::hex << pattern;
    }
  }
}

TEST(BFloat16, RoundsRandomBitPatternsAsAnIndependentFormulaDoes) {
  int truncation_differs = 0;
  for (uint64_t i = 0; i < 100'000; ++i) {
    for (const uint32_t word : Philox::Words(11, RandomPurpose::kTest, 0, i)) {
      const float value = FromBits(word);
      if (std::isnan(value)) continue;
      ASSERT_EQ(static_cast<double>(Rounded(value)), NearestBFloat16(value)) << std::hex << word;
      ASSERT_EQ(std::signbit(Rounded(value)), std::signbit(value)) << std::hex << word;
      truncation_differs += static_cast<double>(Truncated(value)) != NearestBFloat16(value);
    }
  }
  EXPECT_GT(truncation_differs, 150'000);
}

TEST(BFloat16, BreaksTiesToTheEvenNeighbour) {
  EXPECT_EQ(Rounded(FromBits(0x3f808000)), FromBits(0x3f800000));  // between 1 and 1 + 2^-7: down to the even 1
  EXPECT_EQ(Rounded(FromBits(0x3f818000)), FromBits(0x3f820000));  // the next tie: up to the even one
  EXPECT_EQ(Rounded(FromBits(0x3f808001)), FromBits(0x3f810000));  // just above a tie
  EXPECT_EQ(Rounded(FromBits(0x3f817fff)), FromBits(0x3f810000));  // just below a tie
  EXPECT_EQ(Rounded(FromBits(0xbf808000)), FromBits(0xbf800000));
  EXPECT_EQ(Rounded(FromBits(0xbf818000)), FromBits(0xbf820000));
}

TEST(BFloat16, KeepsDenormalsAndTheSignOfZero) {
  EXPECT_EQ(BFloat16(0.0f).bits, 0x0000);
  EXPECT_EQ(BFloat16(-0.0f).bits, 0x8000);
  EXPECT_EQ(Rounded(FromBits(0x00010000)), FromBits(0x00010000));  // the smallest denormal of bf16
  EXPECT_EQ(BFloat16(FromBits(0x00000001)).bits, 0x0000);          // the smallest of fp32 is less than half of it
  EXPECT_EQ(BFloat16(FromBits(0x00008000)).bits, 0x0000);          // a tie between zero and the smallest
  EXPECT_EQ(BFloat16(FromBits(0x00018000)).bits, 0x0002);
  EXPECT_EQ(BFloat16(FromBits(0x007fffff)).bits, 0x0080);  // the largest denormal of fp32 rounds up to a normal number
}

TEST(BFloat16, OverflowsToInfinityOnlyBeyondHalfAStepAboveTheLargest) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(Rounded(infinity), infinity);
  EXPECT_EQ(Rounded(-infinity), -infinity);
  EXPECT_EQ(Rounded(FromBits(0x7f7f7fff)), FromBits(0x7f7f0000));
  EXPECT_EQ(Rounded(FromBits(0x7f7f8000)), infinity);
  EXPECT_EQ(Rounded(std::numeric_limits<float>::max()), infinity);
  EXPECT_EQ(Rounded(std::numeric_limits<float>::lowest()), -infinity);
}

TEST(BFloat16, NaNStaysNaNWhicheverBitsCarryIt) {
  // 0x7f800001 has its only set bit in the half that is dropped; 0x7fffffff would carry into the sign.
  for (const uint32_t word : {0x7fc00000u, 0x7f800001u, 0x7fffffffu, 0xff800001u, 0xffffffffu, 0x7f80ffffu}) {
    const BFloat16 value(FromBits(word));
    EXPECT_TRUE(std::isnan(static_cast<float>(value))) << std::hex << word;
    EXPECT_EQ(value.bits >> 15, word >> 31) << std::hex << word;
  }
}

TEST(DType, SizesNamesAndTypesAgree) {
  static_assert(SizeOf(DTypeOf<float>::value) == sizeof(float));
  static_assert(SizeOf(DTypeOf<double>::value) == sizeof(double));
  static_assert(SizeOf(DTypeOf<BFloat16>::value) == sizeof(BFloat16));
  static_assert(SizeOf(DTypeOf<int32_t>::value) == sizeof(int32_t));
  static_assert(SizeOf(DTypeOf<uint8_t>::value) == sizeof(uint8_t));
  static_assert(SizeOf(DTypeOf<Float8E4M3>::value) == sizeof(Float8E4M3));
  static_assert(SizeOf(DTypeOf<Float8E5M2>::value) == sizeof(Float8E5M2));
  EXPECT_EQ(Name(DTypeOf<float>::value), "fp32");
  EXPECT_EQ(Name(DTypeOf<double>::value), "fp64");
  EXPECT_EQ(Name(DTypeOf<BFloat16>::value), "bf16");
  EXPECT_EQ(Name(DTypeOf<int32_t>::value), "int32");
  EXPECT_EQ(Name(DTypeOf<uint8_t>::value), "uint8");
  EXPECT_EQ(Name(DTypeOf<Float8E4M3>::value), "fp8_e4m3");
  EXPECT_EQ(Name(DTypeOf<Float8E5M2>::value), "fp8_e5m2");
}

TEST(DType, SumsOfDoublesStayDoublesAndAllOthersAreFloats) {
  EXPECT_EQ(AccumulationType(DType::kFloat64), DType::kFloat64);
  EXPECT_EQ(AccumulationType(DType::kFloat32), DType::kFloat32);
  EXPECT_EQ(AccumulationType(DType::kBFloat16), DType::kFloat32);
}

}  // namespace
}  // namespace isthmus
