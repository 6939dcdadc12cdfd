#include "ops/swiglu.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/reference.h"

namespace isthmus {
namespace {

using reference::Buffer;
using reference::ExpectAgrees;
using reference::Matrix;
using reference::Normal;

struct SwigluShape {
  int64_t rows, columns, padding;
};
const std::vector<SwigluShape> kSwigluShapes = {{1, 1, 0}, {3, 7, 2}, {2, 17, 0}, {9, 509, 3}, {4, 1000, 0}};

double Silu(double a) { return a / (1 + std::exp(-a)); }
double SiluSlope(double a) {
  const double s = 1 / (1 + std::exp(-a));
  return s * (1 + a * (1 - s));
}

Matrix ForwardOf(const Matrix& gate_up) {
  const int64_t columns = gate_up.columns / 2;
  Matrix y(gate_up.rows, columns);
  for (int64_t n = 0; n < y.rows; ++n) {
    for (int64_t i = 0; i < columns; ++i) y(n, i) = Silu(gate_up(n, i)) * gate_up(n, columns + i);
  }
  return y;
}

TEST(Swiglu, ForwardMatchesReferenceInEveryTypeAndShape) {
  Stream& stream = reference::TestStream();
  for (const DType dtype : reference::FloatTypes()) {
    for (const SwigluShape& s : kSwigluShapes) {
      SCOPED_TRACE(testing::Message() << Name(dtype) << " " << s.rows << "x" << s.columns);
      const Buffer gate_up(dtype, Normal(s.rows, 2 * s.columns, 1, 3), s.padding);
      const Buffer y(dtype, s.rows, s.columns, s.padding);
      ASSERT_TRUE(SwigluForward({.gate_up = gate_up, .y = y}, stream).ok());
      ExpectAgrees("y", y, ForwardOf(gate_up.Get()), dtype);
    }
  }
}

TEST(Swiglu, BackwardMatchesReferenceInPlaceAndRemakesTheForwardResult) {
  Stream& stream = reference::TestStream();
  for (const DType dtype : reference::FloatTypes()) {
    for (const SwigluShape& s : kSwigluShapes) {
      SCOPED_TRACE(testing::Message() << Name(dtype) << " " << s.rows << "x" << s.columns);
      const Buffer gate_up(dtype, Normal(s.rows, 2 * s.columns, 1, 3), s.padding),
          grad_y(dtype, Normal(s.rows, s.columns, 2));
      const Buffer y(dtype, s.rows, s.columns, 1), y_again(dtype, s.rows, s.columns, 1);
      const Matrix x = gate_up.Get(), g = grad_y.Get();
      Matrix expected(s.rows, 2 * s.columns);
      for (int64_t n = 0; n < s.rows; ++n) {
        for (int64_t i = 0; i < s.columns; ++i) {
          expected(n, i) = g(n, i) * x(n, s.columns + i) * SiluSlope(x(n, i));
          expected(n, s.columns + i) = g(n, i) * Silu(x(n, i));
        }
      }
      ASSERT_TRUE(SwigluForward({.gate_up = gate_up, .y = y}, stream).ok());
      ASSERT_TRUE(
          SwigluBackward({.grad_y = grad_y, .gate_up = gate_up, .grad_gate_up = gate_up, .y = y_again}, stream).ok());
      ExpectAgrees("grad_gate_up", gate_up, expected, dtype);
      EXPECT_TRUE(y.Bytes() == y_again.Bytes());
    }
  }
}

TEST(Swiglu, GradientMatchesFiniteDifferences) {
  if (reference::OnGpu()) GTEST_SKIP() << "fp64 runs on the CPU";
  Stream& stream = reference::TestStream();
  const Matrix x = Normal(3, 34, 1, 2), c = Normal(3, 17, 2);
  const auto loss = [&](const Matrix& values) {
    const Buffer gate_up(DType::kFloat64, values), y(DType::kFloat64, 3, 17);
    EXPECT_TRUE(SwigluForward({.gate_up = gate_up, .y = y}, stream).ok());
    return reference::Dot(c, y.Get());
  };
  const Buffer gate_up(DType::kFloat64, x), grad_y(DType::kFloat64, c), grad(DType::kFloat64, 3, 34);
  ASSERT_TRUE(SwigluBackward({.grad_y = grad_y, .gate_up = gate_up, .grad_gate_up = grad}, stream).ok());
  ExpectAgrees("gradient", grad.Get(), reference::FiniteDifferences(x, loss), 1e-6);
}

// Element by element, so that a small result next to large ones must be right too.
TEST(Swiglu, StaysAccurateForGatesOfAnySize) {
  Stream& stream = reference::TestStream();
  for (const DType dtype : reference::SumTypes()) {
    for (const double gate : {-1e30, -1000.0, -104.5, -87.0, -80.0, -20.0, -1.0, -1e-20, 0.0, 1e-20, 1.0, 20.0, 88.0,
                              104.5, 1000.0, 1e30}) {
      SCOPED_TRACE(testing::Message() << Name(dtype) << " gate " << gate);
      Matrix values(1, 2);
      values(0, 0) = gate;
      values(0, 1) = 1;
      const Buffer gate_up(dtype, values), y(dtype, 1, 1), grad_y(dtype, Matrix(1, 1, 1)), grad(dtype, 1, 2);
      const double a = gate_up.Get()(0, 0);
      ASSERT_TRUE(SwigluForward({.gate_up = gate_up, .y = y}, stream).ok());
      ASSERT_TRUE(SwigluBackward({.grad_y = grad_y, .gate_up = gate_up, .grad_gate_up = grad}, stream).ok());
      // exp(-a) overflows in the reference where the true value is below the smallest number.
      const double silu = a < -700 ? 0 : Silu(a), slope = a < -700 ? 0 : SiluSlope(a);
      const double smallest = dtype == DType::kFloat32 ? 1e-37 : 1e-300;
      EXPECT_NEAR(y.Get()(0, 0), silu, reference::Tolerance(dtype) * std::fabs(silu) + smallest);
      EXPECT_NEAR(grad.Get()(0, 0), slope, reference::Tolerance(dtype) * std::fabs(slope) + smallest);
    }
  }
}

TEST(Swiglu, NaNStaysNaN) {
  Stream& stream = reference::TestStream();
  const Buffer gate_up(DType::kFloat32, Matrix(1, 34, std::nan(""))), y(DType::kFloat32, 1, 17);
  ASSERT_TRUE(SwigluForward({.gate_up = gate_up, .y = y}, stream).ok());
  for (const double value : y.Get().values) EXPECT_TRUE(std::isnan(value));
}

TEST(Swiglu, BitsDoNotDependOnThreads) {
  Stream& stream = reference::TestStream();
  reference::ExpectSameBitsForAnyThreads([&] {
    const Buffer gate_up(DType::kFloat32, Normal(31, 2006, 1)), y(DType::kFloat32, 31, 1003),
        grad(DType::kFloat32, 31, 2006);
    EXPECT_TRUE(SwigluForward({.gate_up = gate_up, .y = y}, stream).ok());
    EXPECT_TRUE(SwigluBackward({.grad_y = y, .gate_up = gate_up, .grad_gate_up = grad}, stream).ok());
    return y.Bytes() + grad.Bytes();
  });
}

TEST(Swiglu, RejectsTensorsThatDisagree) {
  Stream& stream = reference::TestStream();
  const Buffer gate_up(DType::kFloat32, 2, 8), y(DType::kFloat32, 2, 5), narrow(DType::kBFloat16, 2, 4);
  EXPECT_EQ(SwigluForward({.gate_up = gate_up, .y = y}, stream).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(SwigluForward({.gate_up = gate_up, .y = narrow}, stream).ok());
  EXPECT_FALSE(SwigluBackward({.grad_y = y, .gate_up = gate_up, .grad_gate_up = gate_up}, stream).ok());
}

}  // namespace
}  // namespace isthmus
