#include "ops/reductions.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/reference.h"

namespace isthmus {
namespace {

using reference::Buffer;
using reference::ExpectAgrees;
using reference::Matrix;
using reference::Normal;

struct ReductionShape {
  int64_t rows, columns, padding;
};
// The shapes are narrower and wider than a vector, a block of threads and a tile of columns. They have fewer and more
// rows than one thread sums.
const std::vector<ReductionShape> kReductionShapes = {{1, 1, 0}, {3, 7, 2}, {65, 33, 0}, {300, 256, 1}, {9, 4611, 5}};

// Sums in fp64 of exact operands leave this error.
constexpr double kTolerance = 1e-12;

Matrix DotsOf(const Matrix& x, const Matrix& y) {
  Matrix dots(1, x.rows);
  for (int64_t n = 0; n < x.rows; ++n) {
    for (int64_t d = 0; d < x.columns; ++d) dots(0, n) += x(n, d) * y(n, d);
  }
  return dots;
}

TEST(Reductions, RowDotsMatchReference) {
  for (const DType dtype : reference::AllFloatTypes()) {
    for (const ReductionShape& shape : kReductionShapes) {
      SCOPED_TRACE(testing::Message() << Name(dtype) << " " << shape.rows << "x" << shape.columns);
      const Buffer x(dtype, Normal(shape.rows, shape.columns, 1), shape.padding);
      const Buffer y(dtype, Normal(shape.rows, shape.columns, 2), shape.padding);
      const Buffer dots(DType::kFloat64, Normal(1, shape.rows, 3));  // what was there before is overwritten
      ASSERT_TRUE(RowDots({.x = x, .y = y, .dots = dots}, reference::TestStream()).ok());
      ExpectAgrees("dots", dots.Get(), DotsOf(x.Get(), y.Get()), kTolerance);
      ASSERT_TRUE(RowDots({.x = x, .y = x, .dots = dots}, reference::TestStream()).ok());
      ExpectAgrees("squares", dots.Get(), DotsOf(x.Get(), x.Get()), kTolerance);
    }
  }
}

TEST(Reductions, ColumnSumsMatchReferenceAndAdd) {
  for (const DType dtype : reference::AllFloatTypes()) {
    for (const ReductionShape& shape : kReductionShapes) {
      SCOPED_TRACE(testing::Message() << Name(dtype) << " " << shape.rows << "x" << shape.columns);
      const Buffer x(dtype, Normal(shape.rows, shape.columns, 1), shape.padding);
      const Buffer total(DType::kFloat64, Normal(1, shape.columns, 2));
      Matrix expected = total.Get();
      const Matrix values = x.Get();
      for (int64_t n = 0; n < shape.rows; ++n) {
        for (int64_t d = 0; d < shape.columns; ++d) expected(0, d) += values(n, d);
      }
      ASSERT_TRUE(AddColumnSums({.x = x, .total = total}, reference::TestStream()).ok());
      ExpectAgrees("total", total.Get(), expected, kTolerance);
    }
  }
}

TEST(Reductions, ColumnSquaresMatchReferenceAndAdd) {
  for (const DType dtype : reference::AllFloatTypes()) {
    for (const ReductionShape& shape : kReductionShapes) {
      SCOPED_TRACE(testing::Message() << Name(dtype) << " " << shape.rows << "x" << shape.columns);
      const Buffer x(dtype, Normal(shape.rows, shape.columns, 1), shape.padding);
      const Buffer total(DType::kFloat64, Normal(1, shape.columns, 2));
      Matrix expected = total.Get();
      const Matrix values = x.Get();
      for (int64_t n = 0; n < shape.rows; ++n) {
        for (int64_t d = 0; d < shape.columns; ++d) expected(0, d) += values(n, d) * values(n, d);
      }
      ASSERT_TRUE(AddColumnSquares({.x = x, .total = total}, reference::TestStream()).ok());
      ExpectAgrees("total", total.Get(), expected, kTolerance);
    }
  }
}

TEST(Reductions, UnitRowsMatchReferenceAndAdd) {
  for (const DType dtype : reference::AllFloatTypes()) {
    for (const ReductionShape& shape : kReductionShapes) {
      SCOPED_TRACE(testing::Message() << Name(dtype) << " " << shape.rows << "x" << shape.columns);
      Matrix values = Normal(shape.rows, shape.columns, 1);
      for (int64_t d = 0; d < shape.columns; ++d) values(shape.rows / 2, d) = 0;  // a row that has no direction
      const Buffer x(dtype, values, shape.padding), squares(DType::kFloat64, 1, shape.rows);
      const Buffer total(DType::kFloat64, Normal(1, shape.columns, 2));
      Matrix expected = total.Get();
      const Matrix rounded = x.Get(), norms = DotsOf(rounded, rounded);
      for (int64_t n = 0; n < shape.rows; ++n) {
        for (int64_t d = 0; d < shape.columns && norms(0, n) > 0; ++d) {
          expected(0, d) += rounded(n, d) / std::sqrt(norms(0, n));
        }
      }
      ASSERT_TRUE(RowDots({.x = x, .y = x, .dots = squares}, reference::TestStream()).ok());
      ASSERT_TRUE(AddUnitRows({.x = x, .squares = squares, .total = total}, reference::TestStream()).ok());
      ExpectAgrees("total", total.Get(), expected, kTolerance);
    }
  }
}

TEST(Reductions, GiveTheSameBitsForAnyThreads) {
  const Buffer x(DType::kFloat32, Normal(131, 517, 1));
  reference::ExpectSameBitsForAnyThreads([&] {
    const Buffer dots(DType::kFloat64, 1, 131), total(DType::kFloat64, 1, 517);
    EXPECT_TRUE(RowDots({.x = x, .y = x, .dots = dots}, reference::TestStream()).ok());
    EXPECT_TRUE(AddUnitRows({.x = x, .squares = dots, .total = total}, reference::TestStream()).ok());
    EXPECT_TRUE(AddColumnSquares({.x = x, .total = total}, reference::TestStream()).ok());
    return dots.Bytes() + total.Bytes();
  });
}

TEST(Reductions, RejectTensorsThatDisagree) {
  Stream& stream = reference::TestStream();
  const Buffer x(DType::kFloat32, 8, 3), narrow(DType::kFloat32, 8, 2), dots(DType::kFloat64, 1, 8);
  const Buffer total(DType::kFloat64, 1, 3);
  ASSERT_TRUE(RowDots({.x = x, .y = x, .dots = dots}, stream).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(RowDots({.x = x, .y = narrow, .dots = dots}, stream)));
  EXPECT_TRUE(absl::IsInvalidArgument(RowDots({.x = x, .y = x, .dots = total}, stream)));
  EXPECT_TRUE(absl::IsInvalidArgument(AddColumnSquares({.x = x, .total = dots}, stream)));
  EXPECT_TRUE(absl::IsInvalidArgument(AddUnitRows({.x = x, .squares = total, .total = total}, stream)));
  EXPECT_TRUE(absl::IsInvalidArgument(AddUnitRows({.x = x, .squares = dots, .total = Tensor()}, stream)));
}

}  // namespace
}  // namespace isthmus
