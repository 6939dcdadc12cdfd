#include "ops/broadcast.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>

#include "tests/support/reference.h"

namespace isthmus {
namespace {

using reference::Buffer;
using reference::ExpectAgrees;
using reference::Matrix;
using reference::Normal;

const std::pair<int64_t, int64_t> kShapes[] = {{1, 1}, {1, 17}, {5, 8}, {7, 1003}, {300, 24}};

TEST(AddRow, AddsTheVectorToEveryRow) {
  for (const DType dtype : reference::AllFloatTypes()) {
    for (const auto& [rows, columns] : kShapes) {
      for (const int64_t padding : {0, 3}) {
        const DType sum_type = AccumulationType(dtype);
        SCOPED_TRACE(testing::Message() << Name(dtype) << " " << rows << " x " << columns);
        const Buffer x(dtype, Normal(1, columns, 1, 4)), y(sum_type, Normal(rows, columns, 2), padding);
        Matrix expected = y.Get();
        const Matrix vector = x.Get();
        for (int64_t n = 0; n < rows; ++n) {
          for (int64_t d = 0; d < columns; ++d) expected(n, d) += vector(0, d);
        }
        ASSERT_TRUE(AddRow({.x = x, .y = y}, reference::TestStream()).ok());
        ExpectAgrees("y", y, expected, sum_type);
        EXPECT_TRUE(y.PaddingUntouched());
      }
    }
  }
}

TEST(ScaleRows, MultipliesOrDividesEveryRow) {
  for (const DType dtype : reference::FloatTypes()) {
    for (const DType of_factors : {dtype, DType::kBFloat16}) {
      if (dtype == DType::kFloat64 && of_factors != dtype) continue;
      for (const auto& [rows, columns] : kShapes) {
        for (const int bits : {0, 1, 2, 3}) {
          const bool inverse = (bits & 1) != 0, accumulate = (bits & 2) != 0;
          SCOPED_TRACE(testing::Message()
                       << Name(dtype) << " by " << Name(of_factors) << " " << rows << " x " << columns << " " << bits);
          Matrix given = Normal(rows, 1, 3);
          for (double& factor : given.values) factor = std::exp(factor);
          const Buffer factors(of_factors, given), x(dtype, Normal(rows, columns, 1), 5),
              y(dtype, Normal(rows, columns, 2), 2);
          Matrix expected = x.Get();
          const Matrix before = y.Get(), used = factors.Get();
          for (int64_t n = 0; n < rows; ++n) {
            for (int64_t d = 0; d < columns; ++d) {
              expected(n, d) *= inverse ? 1 / used(n, 0) : used(n, 0);
              if (accumulate) expected(n, d) += before(n, d);
            }
          }
          ASSERT_TRUE(ScaleRows({.x = x, .factors = factors, .y = y, .inverse = inverse, .accumulate = accumulate},
                                reference::TestStream())
                          .ok());
          ExpectAgrees("y", y, expected, dtype);
          EXPECT_TRUE(y.PaddingUntouched());
        }
      }
    }
  }
}

TEST(ScaleRows, MayWriteToItsInput) {
  for (const DType dtype : reference::FloatTypes()) {
    const Buffer factors(dtype, Normal(9, 1, 3)), x(dtype, Normal(9, 33, 1)), y(dtype, 9, 33);
    ASSERT_TRUE(ScaleRows({.x = x, .factors = factors, .y = y}, reference::TestStream()).ok());
    ASSERT_TRUE(ScaleRows({.x = x, .factors = factors, .y = x}, reference::TestStream()).ok());
    EXPECT_EQ(x.Get().values, y.Get().values);
  }
}

// Numbers that y held do not survive.
TEST(ScaleRows, ReadsYOnlyToAddToIt) {
  for (const DType dtype : reference::FloatTypes()) {
    const Buffer factors(dtype, Normal(3, 1, 3)), x(dtype, Normal(3, 5, 1)), y(dtype, Matrix(3, 5, std::nan("")));
    ASSERT_TRUE(ScaleRows({.x = x, .factors = factors, .y = y}, reference::TestStream()).ok());
    for (const double value : y.Get().values) EXPECT_TRUE(std::isfinite(value));
  }
}

TEST(Broadcast, RejectsTensorsThatDisagree) {
  Stream& stream = reference::TestStream();
  const Buffer wide(DType::kFloat32, 4, 9), narrow(DType::kBFloat16, 4, 9), row(DType::kFloat32, 1, 9),
      short_row(DType::kFloat32, 1, 8), column(DType::kFloat32, 4, 1), narrow_column(DType::kBFloat16, 4, 1);
  EXPECT_TRUE(AddRow({.x = row, .y = wide}, stream).ok());
  EXPECT_FALSE(AddRow({.x = short_row, .y = wide}, stream).ok());
  EXPECT_FALSE(AddRow({.x = wide, .y = wide}, stream).ok());
  EXPECT_FALSE(AddRow({.x = row, .y = narrow}, stream).ok());
  EXPECT_TRUE(ScaleRows({.x = wide, .factors = narrow_column, .y = wide}, stream).ok());
  EXPECT_FALSE(ScaleRows({.x = narrow, .factors = column, .y = narrow}, stream).ok());
  EXPECT_FALSE(ScaleRows({.x = wide, .factors = row, .y = wide}, stream).ok());
  EXPECT_FALSE(ScaleRows({.x = wide, .factors = column, .y = narrow}, stream).ok());
}

}  // namespace
}  // namespace isthmus
