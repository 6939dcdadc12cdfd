#include "ops/elementwise.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

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
const std::vector<ElementwiseShape> kElementwiseShapes = {{1, 1, 0},     {3, 7, 2},     {17, 17, 0},
                                                          {1, 40001, 0}, {509, 100, 3}, {31, 24, 8}};

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

// a x + b y, by the definition.
Matrix Combined(const Matrix& x, double a, const Matrix& y, double b) {
  Matrix sum = y;
  for (size_t i = 0; i < sum.values.size(); ++i) sum.values[i] = a * x.values[i] + b * y.values[i];
  return sum;
}

// On every device.
constexpr DType kCombineTypes[] = {DType::kFloat32, DType::kFloat64};

TEST(Elementwise, CombineMatchesReferenceWithStrides) {
  Stream& stream = reference::TestStream();
  for (const DType dtype : kCombineTypes) {
    for (const ElementwiseShape& s : kElementwiseShapes) {
      for (const auto& [a, b] : {std::pair(1.0, 1.0), std::pair(0.7, -1.9), std::pair(-3.4445, 0.95),
                                 std::pair(0.3, 0.0), std::pair(0.0, 0.6)}) {
        for (const int64_t padding : {int64_t{1}, s.padding}) {
          SCOPED_TRACE(testing::Message() << Name(dtype) << " " << s.rows << "x" << s.columns << " " << a << " " << b);
          const Buffer x(dtype, Normal(s.rows, s.columns, 1), padding),
              y(dtype, Normal(s.rows, s.columns, 2), s.padding);
          const std::string before = x.Bytes();
          const Matrix expected = Combined(x.Get(), a, y.Get(), b);
          ASSERT_TRUE(Combine({.x = x, .y = y, .x_factor = a, .y_factor = b}, stream).ok());
          ExpectAgrees("y", y, expected, dtype);
          EXPECT_TRUE(x.Bytes() == before);
        }
      }
    }
  }
}

TEST(Elementwise, CombineTakesOneTensorTwiceAndFactorsOfOneByDefault) {
  Stream& stream = reference::TestStream();
  for (const DType dtype : kCombineTypes) {
    const Buffer x(dtype, Normal(5, 7, 1), 2);
    const Matrix twice = Combined(x.Get(), 1, x.Get(), 1);
    ASSERT_TRUE(Combine({.x = x, .y = x}, stream).ok());
    EXPECT_EQ(x.Get().values, twice.values);
    EXPECT_TRUE(x.PaddingUntouched());
  }
  EXPECT_TRUE(
      Combine({.x = Tensor(nullptr, DType::kFloat32, 0, 5), .y = Tensor(nullptr, DType::kFloat32, 0, 5)}, stream).ok());
}

TEST(Elementwise, CombineForgetsWhatYHeldIfItsFactorIsZero) {
  Stream& stream = reference::TestStream();
  for (const DType dtype : kCombineTypes) {
    for (const ElementwiseShape& s : kElementwiseShapes) {
      for (const double bad : {std::nan(""), std::numeric_limits<double>::infinity()}) {
        SCOPED_TRACE(testing::Message() << Name(dtype) << " " << s.rows << "x" << s.columns << " " << bad);
        const Buffer x(dtype, Normal(s.rows, s.columns, 1), 1), y(dtype, Matrix(s.rows, s.columns, bad), s.padding);
        const Matrix half = Combined(x.Get(), 0.5, x.Get(), 0);
        ASSERT_TRUE(Combine({.x = x, .y = y, .x_factor = 0.5, .y_factor = 0}, stream).ok());
        EXPECT_EQ(y.Get().values, half.values);
        EXPECT_TRUE(y.PaddingUntouched());
      }
    }
  }
}

TEST(Elementwise, CombineKeepsNaNOfBothIfTheFactorsAreNotZero) {
  Stream& stream = reference::TestStream();
  for (const DType dtype : kCombineTypes) {
    Matrix left(1, 9, 1), right(1, 9, 2);
    left(0, 8) = right(0, 3) = std::nan("");
    const Buffer x(dtype, left), y(dtype, right);
    ASSERT_TRUE(Combine({.x = x, .y = y, .x_factor = 0.5, .y_factor = 0.25}, stream).ok());
    const Matrix sum = y.Get();
    for (int64_t i = 0; i < 9; ++i) EXPECT_EQ(std::isnan(sum(0, i)), i == 3 || i == 8) << i;
  }
}

// A rank combines its own run of a parameter, wherever that begins.
TEST(Elementwise, BitsOfCombineDoNotDependOnWhereARangeIsSplit) {
  Stream& stream = reference::TestStream();
  for (const DType dtype : kCombineTypes) {
    constexpr int64_t kCount = 131;
    const Buffer x(dtype, Normal(1, kCount, 1)), whole(dtype, Normal(1, kCount, 2));
    ASSERT_TRUE(Combine({.x = x, .y = whole, .x_factor = 0.7, .y_factor = 0.9}, stream).ok());
    for (int64_t split = 1; split < kCount; ++split) {
      const Buffer parts(dtype, Normal(1, kCount, 2));
      for (const auto& [begin, count] : {std::pair(int64_t{0}, split), std::pair(split, kCount - split)}) {
        ASSERT_TRUE(Combine({.x = x.tensor().ColumnSlice(begin, count),
                             .y = parts.tensor().ColumnSlice(begin, count),
                             .x_factor = 0.7,
                             .y_factor = 0.9},
                            stream)
                        .ok());
      }
      ASSERT_TRUE(parts.Bytes() == whole.Bytes()) << Name(dtype) << " split at " << split;
    }
  }
}

TEST(Elementwise, NormaliseMatchesReferenceWithStrides) {
  Stream& stream = reference::TestStream();
  for (const DType dtype : reference::SumTypes()) {
    for (const ElementwiseShape& s : kElementwiseShapes) {
      SCOPED_TRACE(testing::Message() << Name(dtype) << " " << s.rows << "x" << s.columns);
      const Buffer x(dtype, Normal(s.rows, s.columns, 1), s.padding);
      Matrix expected = x.Get();
      double squares = 0;
      for (const double value : expected.values) squares += value * value;
      for (double& value : expected.values) value /= std::sqrt(squares) + 0.25;
      ASSERT_TRUE(Normalise({.x = x, .epsilon = 0.25}, stream).ok());
      ExpectAgrees("x", x, expected, dtype);
      EXPECT_TRUE(x.PaddingUntouched());
    }
  }
  // Zeros stay zeros.
  const Buffer zero(DType::kFloat32, 2, 3);
  ASSERT_TRUE(Normalise({.x = zero, .epsilon = 1e-7}, stream).ok());
  EXPECT_EQ(zero.Get().values, std::vector<double>(6));
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

TEST(Elementwise, ScaleToNormMultipliesByARoot) {
  Stream& stream = reference::TestStream();
  for (const DType dtype : reference::FloatTypes()) {
    for (const ElementwiseShape& s : kElementwiseShapes) {
      SCOPED_TRACE(testing::Message() << Name(dtype) << " " << s.rows << "x" << s.columns);
      const Buffer x(dtype, Normal(s.rows, s.columns, 1), s.padding);
      const Matrix before = x.Get();
      Matrix squares(1, 2);
      squares(0, 0) = 3;
      squares(0, 1) = 12.75;
      ASSERT_TRUE(ScaleToNorm({.x = x, .squares = Buffer(DType::kFloat64, squares)}, stream).ok());
      EXPECT_TRUE(x.PaddingUntouched());
      const double tolerance = dtype == DType::kFloat64 ? 1e-15 : dtype == DType::kFloat32 ? 1e-6 : 5e-3;
      const Matrix after = x.Get();
      for (size_t i = 0; i < before.values.size(); ++i) {
        ASSERT_NEAR(after.values[i], before.values[i] * std::sqrt(4.25), tolerance * std::fabs(after.values[i]));
      }
      squares(0, 0) = 0;
      ASSERT_TRUE(ScaleToNorm({.x = x, .squares = Buffer(DType::kFloat64, squares)}, stream).ok());
      EXPECT_EQ(x.Get().values, after.values);
    }
  }
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
      const Buffer x(dtype, Normal(s.rows, s.columns, 1), s.padding), y(dtype, Normal(s.rows, s.columns, 2), 3);
      long double sum = 0, squares = 0, size = 0, dot = 0, dot_size = 0;
      for (const double value : x.Get().values) {
        sum += value;
        size += std::fabs(value);
        squares += static_cast<long double>(value) * value;
      }
      EXPECT_NEAR(Total(AddSum, x), static_cast<double>(sum), 1e-13 * static_cast<double>(size));
      EXPECT_NEAR(Total(AddSumOfSquares, x) / static_cast<double>(squares), 1, 1e-13);
      const Matrix left = x.Get(), right = y.Get();
      for (size_t i = 0; i < left.values.size(); ++i) {
        const long double product = static_cast<long double>(left.values[i]) * right.values[i];
        dot += product;
        dot_size += std::fabs(product);
      }
      const Buffer total(DType::kFloat64, 1, 1);
      ASSERT_TRUE(AddDot({.x = x, .y = y, .total = total}, reference::TestStream()).ok());
      EXPECT_NEAR(total.Get()(0, 0), static_cast<double>(dot), 1e-13 * static_cast<double>(dot_size));
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
  const Buffer y(DType::kFloat32, Matrix(1, 3, 4));
  ASSERT_TRUE(AddDot({.x = x, .y = y, .total = total}, reference::TestStream()).ok());
  EXPECT_EQ(total.Get()(0, 0), 47);
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
    const Buffer y(DType::kBFloat16, 1, 100003), dot(DType::kFloat64, 1, 1);
    EXPECT_TRUE(AddDot({.x = x, .y = Buffer(DType::kFloat32, Normal(1, 100003, 3)), .total = dot}, stream).ok());
    const double sums[3] = {Total(AddSum, x), Total(AddSumOfSquares, x), dot.Get()(0, 0)};
    EXPECT_TRUE(Cast({.x = x, .y = y}, stream).ok());
    const Buffer combined(DType::kFloat32, Normal(1, 100003, 2));
    EXPECT_TRUE(Combine({.x = x, .y = combined, .x_factor = 0.7, .y_factor = 0.9}, stream).ok());
    return std::string(reinterpret_cast<const char*>(sums), sizeof(sums)) + y.Bytes() + combined.Bytes();
  });
}

TEST(Elementwise, RejectsTensorsThatDisagree) {
  Stream& stream = reference::TestStream();
  const Buffer x(DType::kFloat32, 2, 3), wide(DType::kFloat64, 2, 3), other(DType::kFloat32, 3, 2),
      integers(DType::kInt32, 2, 3);
  EXPECT_EQ(Add({.x = x, .y = wide}, stream).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(Add({.x = x, .y = other}, stream).ok());
  const Buffer half(DType::kBFloat16, 2, 3);
  EXPECT_EQ(Combine({.x = x, .y = wide}, stream).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Combine({.x = half, .y = half}, stream).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(Combine({.x = x, .y = other}, stream).ok());
  EXPECT_EQ(ScaleToNorm({.x = x, .squares = wide}, stream).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(Combine({.x = x, .y = Tensor(nullptr, DType::kFloat32, 2, 3)}, stream).ok());
  EXPECT_FALSE(Cast({.x = x, .y = other}, stream).ok());
  EXPECT_FALSE(Cast({.x = x, .y = integers}, stream).ok());
  const Buffer total(DType::kFloat64, 1, 1);
  EXPECT_FALSE(AddSum({.x = integers, .total = total}, stream).ok());
  EXPECT_FALSE(AddSum({.x = x, .total = wide}, stream).ok());
  EXPECT_EQ(AddDot({.x = x, .y = wide, .total = total}, stream).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(AddDot({.x = x, .y = other, .total = total}, stream).ok());
  EXPECT_FALSE(AddSumOfSquares({.x = Tensor(nullptr, DType::kFloat32, 2, 3), .total = total}, stream).ok());
  Tensor overlapping = x;
  overlapping.row_stride = 2;
  EXPECT_FALSE(SetZero({.x = overlapping}, stream).ok());
}

}  // namespace
}  // namespace isthmus
