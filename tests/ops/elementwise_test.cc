#include "ops/elementwise.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "tests/support/reference.h"

namespace isthmus {
namespace {

using reference::Buffer;
using reference::ExpectAgrees;
using reference::Matrix;
using reference::Normal;

struct ElementwiseShape {
  int64_t rows, columns, padding;
};
const std::vector<ElementwiseShape> kElementwiseShapes = {
    {1, 1, 0}, {3, 7, 2}, {17, 17, 0}, {1, 40001, 0}, {509, 100, 3}};

// A sum from zero.
template <typename Args>
double Total(absl::Status (*add)(const Args&, Stream&), const Tensor& x) {
  const Buffer total(DType::kFloat64, 1, 1);
  EXPECT_TRUE(add({.x = x, .total = total}, reference::TestStream()).ok());
  return total.Get()(0, 0);
}

TEST(Elementwise, AddMatchesReferenceWithStrides) {
  Stream& stream = reference::TestStream();
  for (const DType dtype : reference::FloatTypes()) {
    for (const ElementwiseShape& s : kElementwiseShapes) {
      SCOPED_TRACE(testing::Message() << Name(dtype) << " " << s.rows << "x" << s.columns);
      const Buffer x(dtype, Normal(s.rows, s.columns, 1)), y(dtype, Normal(s.rows, s.columns, 2), s.padding);
      Matrix expected = y.Get();
      const Matrix addition = x.Get();
      for (size_t i = 0; i < expected.values.size(); ++i) expected.values[i] += addition.values[i];
      ASSERT_TRUE(Add({.x = x, .y = y}, stream).ok());
      EXPECT_EQ(y.Get().values, Buffer(dtype, expected).Get().values);
      EXPECT_TRUE(y.PaddingUntouched());
    }
  }
}

TEST(Elementwise, SubtractFromMatchesReferenceWithStrides) {
  Stream& stream = reference::TestStream();
  for (const DType dtype : reference::SumTypes()) {
    for (const ElementwiseShape& s : kElementwiseShapes) {
      SCOPED_TRACE(testing::Message() << Name(dtype) << " " << s.rows << "x" << s.columns);
      const Buffer x(dtype, Normal(s.rows, s.columns, 1), 1), y(dtype, Normal(s.rows, s.columns, 2), s.padding);
      Matrix expected = x.Get();
      const Matrix taken = y.Get();
      for (size_t i = 0; i < expected.values.size(); ++i) expected.values[i] -= taken.values[i];
      ASSERT_TRUE(SubtractFrom({.x = x, .y = y}, stream).ok());
      EXPECT_EQ(y.Get().values, Buffer(dtype, expected).Get().values);
      EXPECT_TRUE(y.PaddingUntouched());
    }
  }
}

TEST(Elementwise, CastRoundsLikeTheScalarTypes) {
  Stream& stream = reference::TestStream();
  for (const DType from : reference::AllFloatTypes()) {
    for (const DType to : reference::AllFloatTypes()) {
      if (reference::OnGpu() && from == DType::kFloat64 && to == DType::kBFloat16) continue;
      for (const ElementwiseShape& s : kElementwiseShapes) {
        SCOPED_TRACE(testing::Message() << Name(from) << " to " << Name(to) << " " << s.rows << "x" << s.columns);
        const Buffer x(from, Normal(s.rows, s.columns, 1), s.padding), y(to, s.rows, s.columns, 1);
        ASSERT_TRUE(Cast({.x = x, .y = y}, stream).ok());
        EXPECT_EQ(y.Get().values, Buffer(to, x.Get()).Get().values);
        EXPECT_TRUE(y.PaddingUntouched());
      }
    }
  }
}

// Takes every upper half of an fp32 with the lower halves around a tie: normal, subnormal, infinite and NaN.
TEST(Elementwise, CastToBf16RoundsEveryTieAsBFloat16Does) {
  if (reference::OnGpu()) GTEST_SKIP() << "the CPU's own rounding; GPUs round in hardware";
  Stream& stream = reference::TestStream();
  std::vector<float> x;
  for (uint32_t high = 0; high < 0x10000; ++high) {
    for (const uint32_t low : {0u, 1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu})
      x.push_back(std::bit_cast<float>(high << 16 | low));
  }
  std::vector<BFloat16> y(x.size());
  const int64_t n = static_cast<int64_t>(x.size());
  ASSERT_TRUE(
      Cast({.x = Tensor(x.data(), DType::kFloat32, 1, n), .y = Tensor(y.data(), DType::kBFloat16, 1, n)}, stream).ok());
  int64_t wrong = 0;
  for (size_t i = 0; i < x.size(); ++i) wrong += y[i].bits != BFloat16(x[i]).bits;
  EXPECT_EQ(wrong, 0);
  std::vector<float> back(y.size());
  ASSERT_TRUE(
      Cast({.x = Tensor(y.data(), DType::kBFloat16, 1, n), .y = Tensor(back.data(), DType::kFloat32, 1, n)}, stream)
          .ok());
  for (size_t i = 0; i < y.size(); ++i) wrong += std::bit_cast<uint32_t>(back[i]) != uint32_t{y[i].bits} << 16;
  EXPECT_EQ(wrong, 0);
}

TEST(Elementwise, CastFromFp64ToBf16RoundsOnce) {
  if (reference::OnGpu()) GTEST_SKIP() << "GPUs don't convert fp64 to bf16";
  Stream& stream = reference::TestStream();
  // The value is just above the middle of two bf16. Rounding to fp32 first would make it a tie, and the tie would go
  // down.
  double x = 1 + 0x1p-8 + 0x1p-40;
  BFloat16 y;
  ASSERT_TRUE(Cast({.x = Tensor(&x, DType::kFloat64, 1, 1), .y = Tensor(&y, DType::kBFloat16, 1, 1)}, stream).ok());
  EXPECT_EQ(static_cast<float>(y), 1 + 0x1p-7f);
  x = -(1 + 3 * 0x1p-8 - 0x1p-40);
  ASSERT_TRUE(Cast({.x = Tensor(&x, DType::kFloat64, 1, 1), .y = Tensor(&y, DType::kBFloat16, 1, 1)}, stream).ok());
  EXPECT_EQ(static_cast<float>(y), -(1 + 0x1p-7f));
}

TEST(Elementwise, SetZeroClearsRowsAndNothingElse) {
  Stream& stream = reference::TestStream();
  for (const DType dtype : {DType::kFloat32, DType::kFloat64, DType::kBFloat16, DType::kInt32, DType::kUInt8}) {
    const Buffer x(dtype, Matrix(5, 7, 3), 2);
    ASSERT_TRUE(SetZero({.x = x}, stream).ok());
    EXPECT_EQ(x.Get().values, Matrix(5, 7).values);
    EXPECT_TRUE(x.PaddingUntouched());
  }
}

TEST(Elementwise, SumsAreFp64) {
  for (const DType dtype : reference::FloatTypes()) {
    for (const ElementwiseShape& s : kElementwiseShapes) {
      SCOPED_TRACE(testing::Message() << Name(dtype) << " " << s.rows << "x" << s.columns);
      const Buffer x(dtype, Normal(s.rows, s.columns, 1), s.padding);
      long double sum = 0, squares = 0, size = 0;
      for (const double value : x.Get().values) {
        sum += value;
        size += std::fabs(value);
        squares += static_cast<long double>(value) * value;
      }
      EXPECT_NEAR(Total(AddSum, x), static_cast<double>(sum), 1e-13 * static_cast<double>(size));
      EXPECT_NEAR(Total(AddSumOfSquares, x) / static_cast<double>(squares), 1, 1e-13);
    }
  }
  EXPECT_EQ(Total(AddSum, Tensor(nullptr, DType::kFloat32, 0, 5)), 0);
}

TEST(Elementwise, SumsAddToWhatIsThere) {
  const Buffer x(DType::kFloat32, Matrix(1, 3, 2)), total(DType::kFloat64, Matrix(1, 1, 5));
  ASSERT_TRUE(AddSum({.x = x, .total = total}, reference::TestStream()).ok());
  EXPECT_EQ(total.Get()(0, 0), 11);
  ASSERT_TRUE(AddSumOfSquares({.x = x, .total = total}, reference::TestStream()).ok());
  EXPECT_EQ(total.Get()(0, 0), 23);
}

TEST(Elementwise, SquaresOfLargeFp32DoNotOverflowAndNaNIsSeen) {
  const Buffer large(DType::kFloat32, Matrix(1, 1000, 1e30));
  EXPECT_NEAR(Total(AddSumOfSquares, large) / 1e63, 1, 1e-6);
  for (const double bad : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    Matrix values = Normal(1, 50001, 1);
    values(0, 50000) = bad;
    const Buffer x(DType::kBFloat16, values);
    EXPECT_FALSE(std::isfinite(Total(AddSumOfSquares, x)));
    EXPECT_FALSE(std::isfinite(Total(AddSum, x)));
  }
}

TEST(Elementwise, BitsDoNotDependOnThreads) {
  Stream& stream = reference::TestStream();
  reference::ExpectSameBitsForAnyThreads([&] {
    const Buffer x(DType::kFloat32, Normal(1, 100003, 1));
    const double sums[2] = {Total(AddSum, x), Total(AddSumOfSquares, x)};
    const Buffer y(DType::kBFloat16, 1, 100003);
    EXPECT_TRUE(Cast({.x = x, .y = y}, stream).ok());
    return std::string(reinterpret_cast<const char*>(sums), sizeof(sums)) + y.Bytes();
  });
}

TEST(Elementwise, RejectsTensorsThatDisagree) {
  Stream& stream = reference::TestStream();
  const Buffer x(DType::kFloat32, 2, 3), wide(DType::kFloat64, 2, 3), other(DType::kFloat32, 3, 2),
      integers(DType::kInt32, 2, 3);
  EXPECT_EQ(Add({.x = x, .y = wide}, stream).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(Add({.x = x, .y = other}, stream).ok());
  EXPECT_FALSE(Cast({.x = x, .y = other}, stream).ok());
  EXPECT_FALSE(Cast({.x = x, .y = integers}, stream).ok());
  const Buffer total(DType::kFloat64, 1, 1);
  EXPECT_FALSE(AddSum({.x = integers, .total = total}, stream).ok());
  EXPECT_FALSE(AddSum({.x = x, .total = wide}, stream).ok());
  EXPECT_FALSE(AddSumOfSquares({.x = Tensor(nullptr, DType::kFloat32, 2, 3), .total = total}, stream).ok());
  Tensor overlapping = x;
  overlapping.row_stride = 2;
  EXPECT_FALSE(SetZero({.x = overlapping}, stream).ok());
}

}  // namespace
}  // namespace isthmus
