#include "ops/matmul.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "ops/cpu/compiled_product.h"
#include "ops/cpu/fp32_product.h"
#include "ops/cpu/widened_product.h"
#include "runtime/device.h"
#include "runtime/parallel_for.h"
#include "tests/support/reference.h"

namespace isthmus {
namespace {

using reference::Buffer;
using reference::ExpectAgrees;
using reference::Matrix;
using reference::Normal;
using reference::Product;

struct MatmulShape {
  int64_t m, n, k, padding;
};
const std::vector<MatmulShape> kMatmulShapes = {{1, 1, 1, 0},    {1, 17, 5, 0},    {5, 1, 33, 3},   {3, 7, 2, 5},
                                                {64, 64, 64, 0}, {31, 65, 129, 1}, {130, 48, 7, 0}, {33, 509, 300, 3}};

// Holds op(a) [M, K] and op(b) [K, N] of a product, kept as its arguments want them.
struct Operands {
  bool transpose_a, transpose_b;
  Buffer a, b;

  Operands(DType dtype, const MatmulShape& shape, bool transpose_a_, bool transpose_b_)
      : transpose_a(transpose_a_),
        transpose_b(transpose_b_),
        a(dtype, Oriented(Normal(shape.m, shape.k, 1), transpose_a_), shape.padding),
        b(dtype, Oriented(Normal(shape.k, shape.n, 2), transpose_b_), shape.padding) {}

  static Matrix Oriented(const Matrix& matrix, bool transpose) {
    return transpose ? reference::Transpose(matrix) : matrix;
  }
  Matrix Expected() const { return Product(Oriented(a.Get(), transpose_a), Oriented(b.Get(), transpose_b)); }
  MatmulArgs Args(const Tensor& c, bool accumulate = false) const {
    return {.a = a, .b = b, .c = c, .transpose_a = transpose_a, .transpose_b = transpose_b, .accumulate = accumulate};
  }
};

void ForAllOperands(const std::function<void(DType, const MatmulShape&, const Operands&)>& check) {
  for (const DType dtype : reference::AllFloatTypes()) {
    for (const MatmulShape& shape : kMatmulShapes) {
      for (const bool transpose_a : {false, true}) {
        for (const bool transpose_b : {false, true}) {
          SCOPED_TRACE(testing::Message() << Name(dtype) << " M " << shape.m << " N " << shape.n << " K " << shape.k
                                          << " transposed " << transpose_a << transpose_b);
          check(dtype, shape, Operands(dtype, shape, transpose_a, transpose_b));
        }
      }
    }
  }
}

TEST(Matmul, MatchesReferenceInEveryTypeShapeAndOrientation) {
  Stream& stream = reference::TestStream();
  ForAllOperands([&](DType dtype, const MatmulShape& shape, const Operands& operands) {
    const Buffer c(dtype, Normal(shape.m, shape.n, 3), shape.padding);
    ASSERT_TRUE(Matmul(operands.Args(c), stream).ok());
    ExpectAgrees("c", c, operands.Expected(), dtype);
  });
}

TEST(Matmul, AccumulatesInTheTypeOfSums) {
  Stream& stream = reference::TestStream();
  ForAllOperands([&](DType dtype, const MatmulShape& shape, const Operands& operands) {
    const DType sums = AccumulationType(dtype);
    const Buffer c(sums, Normal(shape.m, shape.n, 3), shape.padding);
    Matrix expected = operands.Expected();
    const Matrix before = c.Get();
    for (size_t i = 0; i < expected.values.size(); ++i) expected.values[i] += before.values[i];
    ASSERT_TRUE(Matmul(operands.Args(c, /*accumulate=*/true), stream).ok());
    ExpectAgrees("c", c, expected, sums);
  });
}

// Products of bf16 numbers are exact in fp32, so that a result in fp32 is as good as one of fp32 operands.
TEST(Matmul, WidensBf16WithoutRoundingTheResult) {
  Stream& stream = reference::TestStream();
  for (const MatmulShape& shape : kMatmulShapes) {
    const Operands operands(DType::kBFloat16, shape, false, true);
    const Buffer c(DType::kFloat32, shape.m, shape.n);
    ASSERT_TRUE(Matmul(operands.Args(c), stream).ok());
    ExpectAgrees("c", c, operands.Expected(), DType::kFloat32);
  }
}

// Tests, on any processor, the product that stands in for oneDNN's bf16 products on processors for which it has none.
// The last two shapes are cut into blocks.
TEST(Matmul, WidenedProductAgreesInEveryOrientation) {
  if (reference::TestStream().device() == Device::kCuda) GTEST_SKIP() << "a kernel of the CPU";
  std::vector<MatmulShape> shapes = kMatmulShapes;
  shapes.push_back({1030, 9, 1027, 2});
  shapes.push_back({7, 1025, 2050, 0});
  for (const MatmulShape& shape : shapes) {
    for (int bits = 0; bits < 8; ++bits) {
      const bool accumulate = (bits & 4) != 0;
      const Operands operands(DType::kBFloat16, shape, (bits & 1) != 0, (bits & 2) != 0);
      const DType type = accumulate ? DType::kFloat32 : DType::kBFloat16;
      const Buffer c(type, Normal(shape.m, shape.n, 3), shape.padding);
      Matrix expected = operands.Expected();
      const Matrix before = c.Get();
      for (size_t i = 0; accumulate && i < expected.values.size(); ++i) expected.values[i] += before.values[i];
      ASSERT_TRUE(cpu::WidenedProduct(operands.Args(c, accumulate)).ok());
      ExpectAgrees("c", c, expected, type);
    }
  }
}

// Checks sizes of one among other lengths, rows that are adjacent or lie apart, and every orientation. `multiply` must
// give the product, and must not change the gaps between the rows of c.
using Multiply = std::function<absl::Status(const MatmulArgs&)>;
void ExpectAgreesForSingleRowsAndColumns(const std::vector<int64_t>& lengths, DType from, DType to,
                                         const Multiply& multiply) {
  const size_t count = lengths.size();
  for (size_t shape = 0; shape < count * count * count; ++shape) {
    const int64_t m = lengths[shape % count], n = lengths[shape / count % count], k = lengths[shape / count / count];
    for (int bits = 0; bits < 32; ++bits) {
      const bool transpose_a = (bits & 1) != 0, transpose_b = (bits & 2) != 0, accumulate = (bits & 4) != 0;
      const bool apart = (bits & 8) != 0, result_apart = (bits & 16) != 0;
      if (accumulate && to == DType::kBFloat16) continue;
      SCOPED_TRACE(testing::Message() << Name(from) << " to " << Name(to) << " M " << m << " N " << n << " K " << k
                                      << " transposed " << transpose_a << transpose_b << " accumulate " << accumulate
                                      << " apart " << apart << result_apart);
      const Operands operands(from, {m, n, k, apart ? 3 : 0}, transpose_a, transpose_b);
      const Buffer c(to, Normal(m, n, 3), result_apart ? 5 : 0);
      Matrix expected = operands.Expected();
      const Matrix before = c.Get();
      for (size_t i = 0; accumulate && i < expected.values.size(); ++i) expected.values[i] += before.values[i];
      const absl::Status status = multiply(operands.Args(c, accumulate));
      ASSERT_TRUE(status.ok()) << status;
      ASSERT_TRUE(reference::Agrees(c.Get(), expected, reference::Tolerance(to)));
      ASSERT_TRUE(c.PaddingUntouched()) << "wrote between the rows";
    }
  }
}

TEST(Matmul, SingleRowsAndColumnsOfAnyLayout) {
  Stream& stream = reference::TestStream();
  const std::vector<int64_t> lengths = {1, 2, 5, 33};
  const auto multiply = [&](const MatmulArgs& args) { return Matmul(args, stream); };
  for (const DType type : reference::AllFloatTypes()) {
    ExpectAgreesForSingleRowsAndColumns(lengths, type, type, multiply);
  }
  ExpectAgreesForSingleRowsAndColumns(lengths, DType::kBFloat16, DType::kFloat32, multiply);
}

// Tests all of oneDNN's products, because processors and types differ in which one is the first. Compiling them takes
// the time.
TEST(Matmul, EveryCompiledProductOfSingleRowsAndColumnsOfAnyLayout) {
  if (reference::TestStream().device() == Device::kCuda) GTEST_SKIP() << "a kernel of the CPU";
  const OneThread one_thread;
  const auto check = [](DType from, DType to, int implementation) {
    bool found = false;
    ExpectAgreesForSingleRowsAndColumns({1, 33}, from, to, [&](const MatmulArgs& args) -> absl::Status {
      const absl::StatusOr<bool> done = cpu::CompiledProduct(args, implementation);
      if (!done.ok()) return done.status();
      if (!*done) return from == DType::kFloat32 ? cpu::Fp32Product(args) : cpu::WidenedProduct(args);
      found = true;
      return absl::OkStatus();
    });
    return found && !::testing::Test::HasFailure();
  };
  int of_fp32 = 0;
  while (of_fp32 < 8 && check(DType::kFloat32, DType::kFloat32, of_fp32)) ++of_fp32;
  EXPECT_GT(of_fp32, 0) << "every processor has one";
  for (const DType to : {DType::kBFloat16, DType::kFloat32}) {
    for (int i = 0; i < 8 && check(DType::kBFloat16, to, i); ++i) continue;
  }
}

TEST(Matmul, OverwritesWhateverWasThere) {
  Stream& stream = reference::TestStream();
  for (const DType dtype : reference::FloatTypes()) {
    const Operands operands(dtype, {33, 70, 65, 0}, false, false);
    const Buffer c(dtype, Matrix(33, 70, std::nan("")));
    ASSERT_TRUE(Matmul(operands.Args(c), stream).ok());
    ExpectAgrees("c", c, operands.Expected(), dtype);
  }
}

TEST(Matmul, NaNReachesItsRowAndColumn) {
  Stream& stream = reference::TestStream();
  for (const DType dtype : reference::FloatTypes()) {
    Matrix left = Normal(5, 40, 1);
    left(3, 39) = std::nan("");
    const Buffer a(dtype, left), b(dtype, Normal(40, 9, 2)), c(dtype, 5, 9);
    ASSERT_TRUE(Matmul({.a = a, .b = b, .c = c}, stream).ok());
    const Matrix found = c.Get();
    for (int64_t row = 0; row < 5; ++row) {
      for (int64_t column = 0; column < 9; ++column) EXPECT_EQ(std::isnan(found(row, column)), row == 3);
    }
  }
}

TEST(Matmul, SameThreadsGiveTheSameBits) {
  Stream& stream = reference::TestStream();
  for (const DType dtype : reference::FloatTypes()) {
    const Operands operands(dtype, {65, 509, 257, 0}, true, false);
    const auto run = [&] {
      const Buffer c(dtype, 65, 509);
      EXPECT_TRUE(Matmul(operands.Args(c), stream).ok());
      return c.Bytes();
    };
    EXPECT_TRUE(run() == run());
  }
}

TEST(Matmul, RejectsShapesAndTypesThatDisagree) {
  Stream& stream = reference::TestStream();
  const Buffer a(DType::kFloat32, 4, 6), b(DType::kFloat32, 6, 5), c(DType::kFloat32, 4, 5);
  ASSERT_TRUE(Matmul({.a = a, .b = b, .c = c}, stream).ok());
  const auto rejects = [&](const MatmulArgs& args) {
    return Matmul(args, stream).code() == absl::StatusCode::kInvalidArgument;
  };
  EXPECT_TRUE(rejects({.a = a, .b = b, .c = c, .transpose_a = true}));
  EXPECT_TRUE(rejects({.a = a, .b = b, .c = c, .transpose_b = true}));
  EXPECT_TRUE(rejects({.a = a, .b = b, .c = b}));
  EXPECT_TRUE(rejects({.a = a, .b = Buffer(DType::kFloat64, 6, 5), .c = c}));
  EXPECT_TRUE(rejects({.a = a, .b = b, .c = Buffer(DType::kBFloat16, 4, 5)}));
  EXPECT_TRUE(rejects({.a = Buffer(DType::kInt32, 4, 6), .b = b, .c = c}));
  const Buffer a16(DType::kBFloat16, 4, 6), b16(DType::kBFloat16, 6, 5), c16(DType::kBFloat16, 4, 5);
  EXPECT_TRUE(rejects({.a = a16, .b = b16, .c = c16, .accumulate = true}));
  EXPECT_THAT(Matmul({.a = a, .b = b, .c = b}, stream).message(), testing::HasSubstr("Matmul"));
}

}  // namespace
}  // namespace isthmus
