#include "ops/split.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "tests/support/reference.h"

namespace isthmus {
namespace {

using reference::Buffer;
using reference::ExpectAgrees;
using reference::Matrix;
using reference::Normal;
using reference::Product;

TEST(Split, PartsAreBf16AndTheirSumIsTheNumber) {
  struct Shape {
    int64_t rows, columns, padding;
  };
  for (const Shape& shape : {Shape{1, 1, 0}, Shape{3, 7, 2}, Shape{65, 1032, 0}, Shape{130, 36, 4}}) {
    SCOPED_TRACE(testing::Message() << shape.rows << "x" << shape.columns);
    Matrix values = Normal(shape.rows, shape.columns, 1);
    for (size_t i = 0; i < values.values.size(); ++i) values.values[i] *= std::exp2(static_cast<double>(i % 60) - 40);
    const Buffer x(DType::kFloat32, values, shape.padding), high(DType::kBFloat16, shape.rows, shape.columns, 8);
    const Buffer middle(DType::kBFloat16, shape.rows, shape.columns, shape.padding);
    const Buffer low(DType::kBFloat16, shape.rows, shape.columns);
    ASSERT_TRUE(Split({.x = x, .high = high, .middle = middle, .low = low}, reference::TestStream()).ok());
    EXPECT_EQ(high.Get().values, Buffer(DType::kBFloat16, x.Get()).Get().values);
    EXPECT_TRUE(high.PaddingUntouched() && middle.PaddingUntouched());
    Matrix sum = high.Get();
    const Matrix second = middle.Get(), third = low.Get();
    int64_t above = 0;
    for (size_t i = 0; i < sum.values.size(); ++i) {
      above += std::abs(second.values[i]) > std::abs(sum.values[i]) * 0x1p-8 ||
               std::abs(third.values[i]) > std::abs(sum.values[i]) * 0x1p-16;
      sum.values[i] += second.values[i] + third.values[i];
    }
    EXPECT_EQ(sum.values, x.Get().values);
    EXPECT_EQ(above, 0) << "parts of the next ones' size";
  }
}

// The product must be as good as fp32's, from which bf16's or that of two parts is far.
TEST(Split, ProductsAreThoseOfFp32) {
  Stream& stream = reference::TestStream();
  for (const auto& [m, k, n] : {std::array<int64_t, 3>{1, 1, 1}, {3, 40, 17}, {65, 33, 130}}) {
    SCOPED_TRACE(::testing::Message() << m << "x" << k << "x" << n);
    const Buffer a(DType::kFloat32, Normal(m, k, 1), 1), b(DType::kFloat32, Normal(k, n, 2));
    const Buffer left(DType::kBFloat16, m, 3 * k), right(DType::kBFloat16, 6 * k, n), c(DType::kFloat32, m, n);
    ASSERT_TRUE(SplitLeft({.a = a, .parts = left}, stream).ok());
    ASSERT_TRUE(SplitRight({.b = b, .parts = right}, stream).ok());
    ASSERT_TRUE(SplitMatmul({.a = left, .b = right, .c = c}, stream).ok());
    ExpectAgrees("c", c.Get(), Product(a.Get(), b.Get()), 0x1p-20);
    const Buffer narrow(DType::kBFloat16, Normal(m, k, 3));
    ASSERT_TRUE(SplitMatmul({.a = narrow, .b = right, .c = c}, stream).ok());
    ExpectAgrees("c of narrow a", c.Get(), Product(narrow.Get(), b.Get()), 0x1p-20);
  }
}

TEST(Split, RejectsTensorsThatDisagree) {
  const Buffer x(DType::kFloat32, 2, 3), part(DType::kBFloat16, 2, 3), wide(DType::kFloat32, 2, 3),
      narrow(DType::kBFloat16, 2, 2);
  const auto rejects = [](const SplitArgs& args) {
    return Split(args, reference::TestStream()).code() == absl::StatusCode::kInvalidArgument;
  };
  EXPECT_TRUE(rejects({.x = part, .high = part, .middle = part, .low = part}));
  EXPECT_TRUE(rejects({.x = x, .high = wide, .middle = part, .low = part}));
  EXPECT_TRUE(rejects({.x = x, .high = part, .middle = narrow, .low = part}));
  EXPECT_TRUE(rejects({.x = x, .high = part, .middle = part, .low = {}}));
  Stream& stream = reference::TestStream();
  const Buffer left(DType::kBFloat16, 2, 9), right(DType::kBFloat16, 12, 3), uneven(DType::kBFloat16, 13, 3);
  EXPECT_FALSE(SplitLeft({.a = x, .parts = part}, stream).ok());
  EXPECT_FALSE(SplitRight({.b = x, .parts = left}, stream).ok());
  EXPECT_FALSE(SplitMatmul({.a = left, .b = right, .c = wide}, stream).ok());
  EXPECT_FALSE(SplitMatmul({.a = left, .b = uneven, .c = wide}, stream).ok());
}

}  // namespace
}  // namespace isthmus
