#include "ops/quantize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/support/float8.h"
#include "tests/support/reference.h"

namespace isthmus {
namespace {

using reference::Buffer;
using reference::Float8Format;
using reference::kE4M3;
using reference::kE5M2;
using reference::Matrix;
using reference::Normal;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr DType kSources[] = {DType::kFloat32, DType::kBFloat16};

// States the contract, in fp64.
struct Expected {
  Matrix y;
  double inverse;

  Expected(const Float8Format& format, const Matrix& x) : y(x.rows, x.columns) {
    double largest = 0;
    for (const double value : x.values) largest = std::max(largest, std::fabs(value));
    int s = 0;
    if (largest > 0) {
      for (s = 126; std::ldexp(largest, s) > format.largest;) --s;
    }
    for (size_t i = 0; i < x.values.size(); ++i) y.values[i] = format.Nearest(std::ldexp(x.values[i], s));
    inverse = std::ldexp(1.0, -s);
  }
};

// Compares bit for bit, but any NaN equals any other.
bool Same(const Matrix& a, const Matrix& b) {
  return std::equal(a.values.begin(), a.values.end(), b.values.begin(), b.values.end(), [](double x, double y) {
    return std::isnan(x) || std::isnan(y) ? std::isnan(x) && std::isnan(y)
                                          : x == y && std::signbit(x) == std::signbit(y);
  });
}

// y, its transpose and the inverse of one call.
struct Quantized {
  Buffer y, transposed, inverse;

  Quantized(DType type, const Tensor& x, int64_t padding = 0)
      : y(type, x.rows, x.columns, padding),
        transposed(type, x.columns, x.rows, padding),
        inverse(DType::kFloat32, 1, 1) {
    EXPECT_TRUE(Quantize({.x = x, .y = y, .transposed = transposed, .inverse = inverse}, reference::TestStream()).ok());
  }
  double Inverse() const { return inverse.Get()(0, 0); }
};

void ExpectQuantized(const Float8Format& format, const Buffer& x, int64_t padding = 0) {
  const Expected expected(format, x.Get());
  const Quantized found(format.dtype, x, padding);
  EXPECT_EQ(found.Inverse(), expected.inverse);
  EXPECT_TRUE(Same(found.y.Get(), expected.y));
  EXPECT_TRUE(Same(found.transposed.Get(), reference::Transpose(expected.y)));
  EXPECT_TRUE(found.y.PaddingUntouched());
  EXPECT_TRUE(found.transposed.PaddingUntouched());
}

struct QuantizeShape {
  int64_t rows, columns, padding;
};
// The shapes are single elements, rows and columns, parts of tiles, and several tiles. Some have rows that can be read
// in packs, others do not.
const std::vector<QuantizeShape> kQuantizeShapes = {{1, 1, 0},     {1, 17, 0},    {19, 1, 3},
                                                    {7, 5, 2},     {16, 16, 0},   {131, 67, 5},
                                                    {160, 272, 0}, {144, 24, 16}, {257, 130, 1}};

TEST(Quantize, MatchesTheReferenceInEveryTypeAndShape) {
  for (const Float8Format& format : {kE4M3, kE5M2}) {
    for (const DType source : kSources) {
      for (const QuantizeShape& s : kQuantizeShapes) {
        SCOPED_TRACE(testing::Message() << Name(source) << " to " << Name(format.dtype) << " " << s.rows << "x"
                                        << s.columns << " padding " << s.padding);
        for (const double size : {1.0, 3e-7, 5e4}) {
          ExpectQuantized(format, Buffer(source, Normal(s.rows, s.columns, 1, size), s.padding), s.padding);
        }
      }
    }
  }
}

TEST(Quantize, TheComparisonNoticesAWrongCodeAWrongScaleAndAMissingTransposition) {
  const Buffer x(DType::kFloat32, Normal(33, 33, 1));
  for (const Float8Format& format : {kE4M3, kE5M2}) {
    const Expected expected(format, x.Get());
    const Quantized found(format.dtype, x);
    for (const size_t i : {size_t{0}, size_t{544}, size_t{1088}}) {
      Matrix wrong = found.y.Get();
      wrong.values[i] *= 1.25;  // the next code, or the one after it
      EXPECT_FALSE(Same(wrong, expected.y));
    }
    EXPECT_FALSE(Same(found.y.Get(), reference::Transpose(expected.y)));
    Matrix halves = x.Get();
    for (double& value : halves.values) value /= 2;
    EXPECT_NE(Expected(format, halves).inverse, found.Inverse());
  }
}

TEST(Quantize, WritesOnlyWhatIsAskedFor) {
  for (const QuantizeShape& s : kQuantizeShapes) {
    SCOPED_TRACE(testing::Message() << s.rows << "x" << s.columns);
    const Buffer x(DType::kBFloat16, Normal(s.rows, s.columns, 1), s.padding), inverse(DType::kFloat32, 1, 1);
    const Expected expected(kE4M3, x.Get());
    const Buffer y(DType::kFloat8E4M3, s.rows, s.columns), transposed(DType::kFloat8E4M3, s.columns, s.rows);
    Stream& stream = reference::TestStream();
    ASSERT_TRUE(Quantize({.x = x, .y = y, .inverse = inverse}, stream).ok());
    EXPECT_TRUE(Same(y.Get(), expected.y));
    ASSERT_TRUE(Quantize({.x = x, .transposed = transposed, .inverse = inverse}, stream).ok());
    EXPECT_TRUE(Same(transposed.Get(), reference::Transpose(expected.y)));
  }
}

TEST(Quantize, EveryFiniteCodeKeepsItsValue) {
  for (const Float8Format& format : {kE4M3, kE5M2}) {
    Matrix values(2, format.largest_code + 1);
    for (int code = 0; code <= format.largest_code; ++code) {
      values(0, code) = format.ValueOf(code);
      values(1, code) = format.ValueOf(code + 128);
    }
    for (const DType source : kSources) {
      const Quantized found(format.dtype, Buffer(source, values));
      EXPECT_EQ(found.Inverse(), 1);
      EXPECT_TRUE(Same(found.y.Get(), values));
    }
  }
}

TEST(Quantize, TiesGoToTheEvenCode) {
  for (const Float8Format& format : {kE4M3, kE5M2}) {
    Matrix values(1, format.largest_code + 1);
    for (int code = 0; code < format.largest_code; ++code) {
      values(0, code) = (format.ValueOf(code) + format.ValueOf(code + 1)) / 2;
    }
    values(0, format.largest_code) = format.largest;  // so that nothing is scaled
    const Matrix found = Quantized(format.dtype, Buffer(DType::kFloat32, values)).y.Get();
    for (int code = 0; code < format.largest_code; ++code) {
      EXPECT_EQ(found(0, code), format.ValueOf(code + code % 2)) << code;
    }
  }
}

// The largest magnitude decides alone. It lies at, just above and just below 1.75 times a power of two, and at the ends
// of the range. One matrix is nothing but zeros.
TEST(Quantize, TheScaleIsTheLargestPowerOfTwoThatFits) {
  const float edge = 1.75F;
  for (const Float8Format& format : {kE4M3, kE5M2}) {
    for (const double largest : {static_cast<double>(edge), static_cast<double>(std::nextafter(edge, 2.0F)),
                                 static_cast<double>(std::nextafter(edge, 0.0F)), 1.0, 2.0, -448.0, 449.0, -57345.0,
                                 0.0, static_cast<double>(std::numeric_limits<float>::max()),
                                 static_cast<double>(std::numeric_limits<float>::min()),
                                 static_cast<double>(std::numeric_limits<float>::denorm_min())}) {
      SCOPED_TRACE(testing::Message() << Name(format.dtype) << " " << largest);
      Matrix values(3, 5, largest / 3);
      values(2, 4) = largest;
      ExpectQuantized(format, Buffer(DType::kFloat32, values));
      const double found = Quantized(format.dtype, Buffer(DType::kFloat32, values)).y.Get()(2, 4);
      EXPECT_LE(std::fabs(found), format.largest);
      if (std::fabs(largest) < 1e-30) continue;  // where the scale itself ends
      EXPECT_GE(2 * std::fabs(found), format.largest);
    }
  }
}

TEST(Quantize, ZerosStayZerosOfTheirSign) {
  Matrix values(2, 3);
  values(1, 1) = -0.0;
  const Quantized found(DType::kFloat8E4M3, Buffer(DType::kBFloat16, values));
  EXPECT_TRUE(Same(found.y.Get(), values));
  EXPECT_EQ(found.Inverse(), 1);
}

TEST(Quantize, WhatIsNotFiniteMakesEverythingNaN) {
  for (const double bad : {std::nan(""), kInfinity, -kInfinity}) {
    for (const DType source : kSources) {
      for (const Float8Format& format : {kE4M3, kE5M2}) {
        Matrix values = Normal(40, 33, 1);
        values(39, 32) = bad;
        const Quantized found(format.dtype, Buffer(source, values));
        EXPECT_TRUE(std::isnan(found.Inverse()));
        for (const double value : found.y.Get().values) ASSERT_TRUE(std::isnan(value));
        for (const double value : found.transposed.Get().values) ASSERT_TRUE(std::isnan(value));
      }
    }
  }
}

TEST(Quantize, BitsDoNotDependOnThreads) {
  reference::ExpectSameBitsForAnyThreads([] {
    const Quantized found(DType::kFloat8E5M2, Buffer(DType::kBFloat16, Normal(301, 272, 1)));
    return found.y.Bytes() + found.transposed.Bytes() + found.inverse.Bytes();
  });
}

TEST(Quantize, RejectsTensorsThatDisagree) {
  const Buffer x(DType::kBFloat16, 4, 6), y(DType::kFloat8E4M3, 4, 6), transposed(DType::kFloat8E4M3, 6, 4),
      inverse(DType::kFloat32, 1, 1);
  const auto rejects = [&](const QuantizeArgs& args) {
    return Quantize(args, reference::TestStream()).code() == absl::StatusCode::kInvalidArgument;
  };
  EXPECT_FALSE(rejects({.x = x, .y = y, .transposed = transposed, .inverse = inverse}));
  EXPECT_TRUE(rejects({.x = x, .y = transposed, .inverse = inverse}));
  EXPECT_TRUE(rejects({.x = x, .transposed = y, .inverse = inverse}));
  EXPECT_TRUE(rejects({.x = x, .inverse = inverse}));
  EXPECT_TRUE(rejects({.x = x, .y = y}));
  EXPECT_TRUE(rejects({.x = x, .y = Buffer(DType::kUInt8, 4, 6), .inverse = inverse}));
  EXPECT_TRUE(rejects({.x = x, .y = y, .transposed = Buffer(DType::kFloat8E5M2, 6, 4), .inverse = inverse}));
  EXPECT_TRUE(rejects({.x = Buffer(DType::kFloat64, 4, 6), .y = y, .inverse = inverse}));
  EXPECT_TRUE(rejects({.x = x, .y = y, .inverse = Buffer(DType::kFloat64, 1, 1)}));
  EXPECT_THAT(Quantize({.x = x, .inverse = inverse}, reference::TestStream()).message(),
              testing::HasSubstr("Quantize: y is"));
}

}  // namespace
}  // namespace isthmus
