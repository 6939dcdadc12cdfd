#include "ops/gram.h"

#include <gtest/gtest.h>

#include <utility>

#include "tests/support/reference.h"

namespace isthmus {
namespace {

using reference::Buffer;
using reference::ExpectAgrees;
using reference::Matrix;
using reference::Normal;

struct GramShape {
  int64_t rows, left, right, padding;
};
// More and fewer rows than a block that is summed in fp32 has.
const std::vector<GramShape> kGramShapes = {
    {1, 1, 1, 0}, {7, 3, 5, 2}, {1024, 8, 17, 0}, {1025, 33, 9, 3}, {2500, 16, 16, 0}};

// c + xᵀ y
Matrix GramOf(Matrix c, const Matrix& x, const Matrix& y) {
  const Matrix product = reference::Product(reference::Transpose(x), y);
  for (size_t i = 0; i < c.values.size(); ++i) c.values[i] += product.values[i];
  return c;
}

TEST(Gram, MatchesReferenceAndAdds) {
  Stream& stream = reference::TestStream();
  for (const DType dtype : reference::AllFloatTypes()) {
    for (const GramShape& shape : kGramShapes) {
      SCOPED_TRACE(testing::Message() << Name(dtype) << " " << shape.rows << ": " << shape.left << "x" << shape.right);
      const Buffer x(dtype, Normal(shape.rows, shape.left, 1), shape.padding);
      const Buffer y(dtype, Normal(shape.rows, shape.right, 2), shape.padding);
      const Buffer c(DType::kFloat64, Normal(shape.left, shape.right, 3), shape.padding);
      const Buffer workspace(DType::kFloat32, shape.left, shape.right);
      const Matrix expected = GramOf(c.Get(), x.Get(), y.Get());
      ASSERT_TRUE(Gram({.x = x, .y = y, .c = c, .workspace = workspace}, stream).ok());
      ExpectAgrees("c", c, expected, dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32);
    }
  }
}

TEST(Gram, OfAMatrixWithItselfIsSymmetricAndPositive) {
  Stream& stream = reference::TestStream();
  for (const DType dtype : reference::AllFloatTypes()) {
    // There are more rows than are summed in fp32. There are more columns than are formed at once when half of them
    // follows.
    for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>(4500, 19), {70, 530}}) {
      const Buffer x(dtype, Normal(rows, columns, 1)), c(DType::kFloat64, columns, columns);
      const Buffer workspace(DType::kFloat32, columns, columns);
      for (int times = 1; times <= 2; ++times) {  // a second product is added
        ASSERT_TRUE(Gram({.x = x, .y = x, .c = c, .workspace = workspace}, stream).ok());
        const Matrix found = c.Get();
        Matrix expected = GramOf(Matrix(columns, columns), x.Get(), x.Get());
        for (double& value : expected.values) value *= times;
        ExpectAgrees("c", found, expected, dtype == DType::kFloat64 ? 1e-12 : 2e-5);
        for (int64_t i = 0; i < columns; ++i) {
          EXPECT_GT(found(i, i), 0);
          for (int64_t j = 0; j < i; ++j) EXPECT_NEAR(found(i, j), found(j, i), 1e-5 * found(i, i));
        }
      }
    }
  }
}

// A sum kept in fp32 alone would stop growing at 2²⁴ ones.
TEST(Gram, ErrorDoesNotGrowWithRows) {
  Stream& stream = reference::TestStream();
  constexpr int64_t kRows = 3 * (1 << 20);
  const Buffer x(DType::kBFloat16, Matrix(kRows, 1, 3)), c(DType::kFloat64, 1, 1), workspace(DType::kFloat32, 1, 1);
  ASSERT_TRUE(Gram({.x = x, .y = x, .c = c, .workspace = workspace}, stream).ok());
  EXPECT_EQ(c.Get()(0, 0), 9.0 * kRows);
}

TEST(Gram, RejectsTensorsThatDisagree) {
  Stream& stream = reference::TestStream();
  const Buffer x(DType::kFloat32, 8, 3), y(DType::kFloat32, 8, 4), c(DType::kFloat64, 3, 4);
  const Buffer workspace(DType::kFloat32, 3, 4);
  ASSERT_TRUE(Gram({.x = x, .y = y, .c = c, .workspace = workspace}, stream).ok());
  const auto rejects = [&](const GramArgs& args) {
    return Gram(args, stream).code() == absl::StatusCode::kInvalidArgument;
  };
  EXPECT_TRUE(rejects({.x = x, .y = Buffer(DType::kFloat32, 7, 4), .c = c, .workspace = workspace}));
  EXPECT_TRUE(rejects({.x = x, .y = Buffer(DType::kBFloat16, 8, 4), .c = c, .workspace = workspace}));
  EXPECT_TRUE(rejects({.x = x, .y = y, .c = workspace, .workspace = workspace}));
  EXPECT_TRUE(rejects({.x = x, .y = y, .c = c}));
}

}  // namespace
}  // namespace isthmus
