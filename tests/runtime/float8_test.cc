#include "tests/support/float8.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "runtime/dtype.h"
#include "runtime/philox.h"

namespace isthmus {
namespace {

using reference::Float8Format;

template <typename F>
Float8Format FormatOf() {
  return DTypeOf<F>::value == DType::kFloat8E4M3 ? reference::kE4M3 : reference::kE5M2;
}

template <typename F>
class Float8Test : public ::testing::Test {};
using Formats = ::testing::Types<Float8E4M3, Float8E5M2>;
TYPED_TEST_SUITE(Float8Test, Formats);

template <typename F>
F FromCode(int code) {
  F value;
  value.bits = static_cast<uint8_t>(code);
  return value;
}

template <typename F>
double Rounded(float value) {
  return static_cast<double>(static_cast<float>(F(value)));
}

// Returns true for the same value, the sign of zero included; NaN equals NaN.
bool Same(double a, double b) {
  return std::isnan(a) || std::isnan(b) ? std::isnan(a) && std::isnan(b) : a == b && std::signbit(a) == std::signbit(b);
}

TYPED_TEST(Float8Test, EveryCodeMeansWhatTheTableSaysAndSurvivesTheWayThroughFloat) {
  const Float8Format format = FormatOf<TypeParam>();
  for (int code = 0; code < 256; ++code) {
    const auto value = static_cast<float>(FromCode<TypeParam>(code));
    EXPECT_TRUE(Same(static_cast<double>(value), format.ValueOf(code))) << std::hex << code << ": " << value;
    if (!std::isfinite(value)) continue;
    EXPECT_EQ(TypeParam(value).bits, code) << std::hex << code;
  }
  EXPECT_EQ(format.ValueOf(format.largest_code), format.largest);
}

// Takes random magnitudes, and around every number the middle to the next and its neighbours.
TYPED_TEST(Float8Test, RoundsToTheNearestNumberTiesToEven) {
  const Float8Format format = FormatOf<TypeParam>();
  int truncation_differs = 0, checked = 0;
  const auto check = [&](float x) {
    ASSERT_TRUE(Same(Rounded<TypeParam>(x), format.Nearest(static_cast<double>(x)))) << std::hexfloat << x;
    ++checked;
    // Dropping the lower bits gives another value: the test must tell it from rounding.
    const double below = format.ValueOf(format.CodeBelow(std::fabs(static_cast<double>(x))));
    truncation_differs += std::copysign(below, x) != format.Nearest(static_cast<double>(x));
  };
  for (int code = 0; code < format.largest_code; ++code) {
    const auto middle = static_cast<float>((format.ValueOf(code) + format.ValueOf(code + 1)) / 2);
    for (const float x : {middle, std::nextafter(middle, 0.0F), std::nextafter(middle, 1e9F)}) {
      check(x);
      check(-x);
    }
  }
  for (uint64_t i = 0; i < 5000; ++i) {
    const double exponent = Philox::Uniform(3, RandomPurpose::kTest, 0, 2 * i) * 40 - 22;
    const double sign = Philox::Uniform(3, RandomPurpose::kTest, 0, 2 * i + 1) < 0.5 ? -1 : 1;
    check(static_cast<float>(sign * std::exp2(exponent)));
  }
  EXPECT_GT(truncation_differs, checked / 4);
}

TYPED_TEST(Float8Test, SaturatesAtTheLargestNumber) {
  const double largest = FormatOf<TypeParam>().largest;
  const auto edge = static_cast<float>(largest);
  for (const float x : {edge, std::nextafter(edge, 1e9F), edge * 1.5F, std::numeric_limits<float>::max(),
                        std::numeric_limits<float>::infinity()}) {
    EXPECT_EQ(Rounded<TypeParam>(x), largest) << x;
    EXPECT_EQ(Rounded<TypeParam>(-x), -largest) << x;
  }
}

TYPED_TEST(Float8Test, NaNStaysNaNAndTinyNumbersBecomeZeroOfTheirSign) {
  for (const uint32_t word : {0x7fc00000u, 0x7f800001u, 0x7fffffffu, 0xff800001u, 0xffffffffu}) {
    EXPECT_TRUE(std::isnan(Rounded<TypeParam>(std::bit_cast<float>(word)))) << std::hex << word;
  }
  for (const float x : {0.0F, 1e-20F, std::numeric_limits<float>::denorm_min()}) {
    EXPECT_TRUE(Same(Rounded<TypeParam>(x), 0.0)) << x;
    EXPECT_TRUE(Same(Rounded<TypeParam>(-x), -0.0)) << x;
  }
}

}  // namespace
}  // namespace isthmus
