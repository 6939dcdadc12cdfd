#include "ops/tanh.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "runtime/dtype.h"
#include "tests/support/reference.h"

namespace isthmus {
namespace {

using reference::Buffer;
using reference::ExpectAgrees;
using reference::Matrix;
using reference::Normal;

struct TanhShape {
  int64_t rows, columns, padding;
};
const std::vector<TanhShape> kTanhShapes = {{1, 1, 0}, {3, 7, 2}, {2, 17, 0}, {9, 509, 3}, {4, 1000, 0}};

TEST(Tanh, ForwardMatchesReferenceInEveryTypeAndShape) {
  for (const DType dtype : reference::FloatTypes()) {
    for (const TanhShape& s : kTanhShapes) {
      SCOPED_TRACE(testing::Message() << Name(dtype) << " " << s.rows << "x" << s.columns);
      const Buffer x(dtype, Normal(s.rows, s.columns, 1, 2), s.padding), y(dtype, s.rows, s.columns, 1);
      Matrix expected = x.Get();
      for (double& value : expected.values) value = std::tanh(value);
      ASSERT_TRUE(TanhForward({.x = x, .y = y}, reference::TestStream()).ok());
      ExpectAgrees("y", y, expected, dtype);
      const std::string apart = reference::Buffer(dtype, y.Get()).Bytes();
      ASSERT_TRUE(TanhForward({.x = x, .y = x}, reference::TestStream()).ok());
      EXPECT_EQ(reference::Buffer(dtype, x.Get()).Bytes(), apart);
      EXPECT_TRUE(x.PaddingUntouched() && y.PaddingUntouched());
    }
  }
}

TEST(Tanh, BackwardScalesRowsOfGradientAndResult) {
  for (const DType dtype : reference::FloatTypes()) {
    for (const TanhShape& s : kTanhShapes) {
      for (const bool in_place : {false, true}) {
        SCOPED_TRACE(testing::Message() << Name(dtype) << " " << s.rows << "x" << s.columns << " " << in_place);
        const Buffer y(dtype, Normal(s.rows, s.columns, 1, 0.4), s.padding),
            grad_y(dtype, Normal(s.rows, s.columns, 2));
        const Buffer factors(AccumulationType(dtype), Normal(1, s.rows, 3)), apart(dtype, s.rows, s.columns, 2);
        const Buffer& grad_x = in_place ? grad_y : apart;
        Matrix gradient = grad_y.Get(), scaled = y.Get();
        const Matrix f = factors.Get();
        for (int64_t n = 0; n < s.rows; ++n) {
          for (int64_t d = 0; d < s.columns; ++d) {
            gradient(n, d) *= f(0, n) * (1 - scaled(n, d) * scaled(n, d));
            scaled(n, d) *= f(0, n);
          }
        }
        ASSERT_TRUE(
            TanhBackward({.grad_y = grad_y, .y = y, .factors = factors, .grad_x = grad_x}, reference::TestStream())
                .ok());
        ExpectAgrees("grad_x", grad_x, gradient, dtype);
        ExpectAgrees("y", y, scaled, dtype);
        EXPECT_TRUE(y.PaddingUntouched() && grad_x.PaddingUntouched());
      }
    }
  }
}

TEST(Tanh, GradientMatchesFiniteDifferences) {
  if (reference::OnGpu()) GTEST_SKIP() << "fp64 runs on the CPU";
  Stream& stream = reference::TestStream();
  const Matrix values = Normal(3, 17, 1), c = Normal(3, 17, 2);
  const auto loss = [&](const Matrix& input) {
    const Buffer x(DType::kFloat64, input), y(DType::kFloat64, 3, 17);
    EXPECT_TRUE(TanhForward({.x = x, .y = y}, stream).ok());
    return reference::Dot(c, y.Get());
  };
  const Buffer y(DType::kFloat64, values), grad(DType::kFloat64, c), ones(DType::kFloat64, Matrix(1, 3, 1));
  ASSERT_TRUE(TanhForward({.x = y, .y = y}, stream).ok());
  ASSERT_TRUE(TanhBackward({.grad_y = grad, .y = y, .factors = ones, .grad_x = grad}, stream).ok());
  ExpectAgrees("gradient", grad.Get(), reference::FiniteDifferences(values, loss), 1e-6);
}

TEST(Tanh, NumbersOfAnySizeStayAccurateAndNaNStaysNaN) {
  for (const DType dtype : reference::SumTypes()) {
    for (const double value : {-1e30, -100.0, -20.0, -1.0, -1e-6, -1e-20, 0.0, 1e-20, 0.3, 5.0, 88.0, 1e30, HUGE_VAL}) {
      const Buffer x(dtype, Matrix(1, 1, value)), y(dtype, 1, 1);
      const double expected = std::tanh(x.Get()(0, 0));
      ASSERT_TRUE(TanhForward({.x = x, .y = y}, reference::TestStream()).ok());
      EXPECT_NEAR(y.Get()(0, 0), expected, reference::Tolerance(dtype) * std::fabs(expected)) << value;
    }
    const Buffer x(dtype, Matrix(1, 34, std::nan(""))), y(dtype, 1, 34);
    ASSERT_TRUE(TanhForward({.x = x, .y = y}, reference::TestStream()).ok());
    for (const double value : y.Get().values) EXPECT_TRUE(std::isnan(value));
  }
}

TEST(Tanh, BitsDoNotDependOnThreads) {
  Stream& stream = reference::TestStream();
  reference::ExpectSameBitsForAnyThreads([&] {
    const Buffer x(DType::kFloat32, Normal(31, 1003, 1)), grad(DType::kFloat32, Normal(31, 1003, 2));
    const Buffer factors(DType::kFloat32, Normal(1, 31, 3));
    EXPECT_TRUE(TanhForward({.x = x, .y = x}, stream).ok());
    EXPECT_TRUE(TanhBackward({.grad_y = grad, .y = x, .factors = factors, .grad_x = grad}, stream).ok());
    return x.Bytes() + grad.Bytes();
  });
}

TEST(Tanh, RejectsTensorsThatDisagree) {
  Stream& stream = reference::TestStream();
  const Buffer x(DType::kFloat32, 2, 8), other(DType::kFloat32, 2, 7), narrow(DType::kBFloat16, 2, 8);
  const Buffer factors(DType::kFloat32, 1, 2), few(DType::kFloat32, 1, 1), rounded(DType::kBFloat16, 1, 2);
  const auto code = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(TanhForward({.x = x, .y = other}, stream).code(), code);
  EXPECT_EQ(TanhForward({.x = x, .y = narrow}, stream).code(), code);
  EXPECT_EQ(TanhBackward({.grad_y = other, .y = x, .factors = factors, .grad_x = x}, stream).code(), code);
  EXPECT_EQ(TanhBackward({.grad_y = x, .y = x, .factors = few, .grad_x = x}, stream).code(), code);
  EXPECT_EQ(TanhBackward({.grad_y = narrow, .y = narrow, .factors = rounded, .grad_x = narrow}, stream).code(), code);
  EXPECT_EQ(TanhBackward({.grad_y = x, .y = x, .factors = factors, .grad_x = other}, stream).code(), code);
}

}  // namespace
}  // namespace isthmus
