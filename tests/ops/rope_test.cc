#include "ops/rope.h"

#include <gtest/gtest.h>

#include <cmath>
#include <complex>

#include "tests/support/reference.h"

namespace isthmus {
namespace {

using reference::Buffer;
using reference::ExpectAgrees;
using reference::Matrix;
using reference::Normal;

constexpr double kTheta = 10000;

// Treats a head's pairs as complex numbers, turned by their angle.
Matrix Rotate(const Matrix& x, int64_t sequence_length, int64_t head_dim, int64_t first_position, double direction) {
  Matrix y = x;
  const int64_t half = head_dim / 2;
  for (int64_t n = 0; n < x.rows; ++n) {
    const double position = static_cast<double>(first_position + n % sequence_length);
    for (int64_t head = 0; head < x.columns; head += head_dim) {
      for (int64_t i = 0; i < half; ++i) {
        const double angle = position / std::pow(kTheta, 2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
        const auto z = std::complex<double>(x(n, head + i), x(n, head + half + i)) * std::polar(1.0, direction * angle);
        y(n, head + i) = z.real();
        y(n, head + half + i) = z.imag();
      }
    }
  }
  return y;
}

struct RopeShape {
  int64_t rows, sequence_length, heads, head_dim, padding, first_position;
};
const std::vector<RopeShape> kRopeShapes = {
    {1, 1, 1, 2, 0, 0}, {6, 3, 3, 6, 0, 0}, {34, 17, 2, 14, 5, 3}, {12, 6, 4, 64, 0, 0}, {7, 100, 3, 34, 1, 50}};

TEST(Rope, TurnsEveryPairByItsAngleAndBack) {
  Stream& stream = reference::TestStream();
  for (const DType dtype : reference::FloatTypes()) {
    for (const RopeShape& s : kRopeShapes) {
      SCOPED_TRACE(testing::Message() << Name(dtype) << " head_dim " << s.head_dim);
      const Buffer table(AccumulationType(dtype), 128, s.head_dim);
      ASSERT_TRUE(FillRopeTable({.theta = kTheta, .head_dim = s.head_dim, .table = table}, stream).ok());
      Buffer x(dtype, Normal(s.rows, s.heads * s.head_dim, 1), s.padding);
      const Matrix before = x.Get();
      RopeArgs args = {.x = x,
                       .table = table,
                       .sequence_length = s.sequence_length,
                       .head_dim = s.head_dim,
                       .first_position = s.first_position};
      ASSERT_TRUE(Rope(args, stream).ok());
      ExpectAgrees("forward", x, Rotate(before, s.sequence_length, s.head_dim, s.first_position, 1), dtype);
      const Matrix turned = x.Get();
      args.inverse = true;
      ASSERT_TRUE(Rope(args, stream).ok());
      ExpectAgrees("inverse", x, Rotate(turned, s.sequence_length, s.head_dim, s.first_position, -1), dtype);
      EXPECT_TRUE(reference::Agrees(x.Get(), before, reference::Tolerance(dtype)));
    }
  }
}

// A rotation is linear: its gradient is the rotation back.
TEST(Rope, InverseIsTheGradient) {
  if (reference::OnGpu()) GTEST_SKIP() << "fp64 runs on the CPU";
  Stream& stream = reference::TestStream();
  const int64_t rows = 5, head_dim = 6, columns = 18;
  const Buffer table(DType::kFloat64, 16, head_dim);
  ASSERT_TRUE(FillRopeTable({.theta = kTheta, .head_dim = head_dim, .table = table}, stream).ok());
  const Matrix c = Normal(rows, columns, 2);
  const auto loss = [&](const Matrix& values) {
    const Buffer x(DType::kFloat64, values);
    EXPECT_TRUE(Rope({.x = x, .table = table, .sequence_length = rows, .head_dim = head_dim}, stream).ok());
    return reference::Dot(c, x.Get());
  };
  const Buffer grad(DType::kFloat64, c);
  ASSERT_TRUE(
      Rope({.x = grad, .table = table, .sequence_length = rows, .head_dim = head_dim, .inverse = true}, stream).ok());
  ExpectAgrees("gradient", grad.Get(), reference::FiniteDifferences(Normal(rows, columns, 1), loss), 1e-6);
}

TEST(Rope, TableIsAccurateAtFarPositions) {
  const Buffer table(DType::kFloat32, 32768, 8);
  ASSERT_TRUE(FillRopeTable({.theta = 500000, .head_dim = 8, .table = table}, reference::TestStream()).ok());
  const Matrix found = table.Get();
  for (int64_t i = 0; i < 4; ++i) {
    const double angle = 32767 / std::pow(500000.0, static_cast<double>(i) / 4);
    EXPECT_NEAR(found(32767, i), std::cos(angle), 1e-7);
    EXPECT_NEAR(found(32767, 4 + i), std::sin(angle), 1e-7);
  }
}

TEST(Rope, BitsDoNotDependOnThreads) {
  Stream& stream = reference::TestStream();
  reference::ExpectSameBitsForAnyThreads([&] {
    const Buffer table(DType::kFloat32, 64, 34), x(DType::kBFloat16, Normal(101, 68, 1));
    EXPECT_TRUE(FillRopeTable({.theta = kTheta, .head_dim = 34, .table = table}, stream).ok());
    EXPECT_TRUE(Rope({.x = x, .table = table, .sequence_length = 64, .head_dim = 34}, stream).ok());
    return x.Bytes();
  });
}

TEST(Rope, RejectsOddHeadsAndPositionsBeyondTheTable) {
  Stream& stream = reference::TestStream();
  const Buffer table(DType::kFloat32, 8, 4), x(DType::kFloat32, 10, 8), odd(DType::kFloat32, 8, 3);
  EXPECT_TRUE(Rope({.x = x, .table = table, .sequence_length = 5, .head_dim = 4, .first_position = 3}, stream).ok());
  EXPECT_FALSE(Rope({.x = x, .table = table, .sequence_length = 5, .head_dim = 4, .first_position = 4}, stream).ok());
  EXPECT_FALSE(Rope({.x = x, .table = table, .sequence_length = 10, .head_dim = 4}, stream).ok());
  EXPECT_FALSE(Rope({.x = x, .table = table, .sequence_length = 5, .head_dim = 3}, stream).ok());
  EXPECT_FALSE(Rope({.x = x, .table = table, .sequence_length = 0, .head_dim = 4}, stream).ok());
  EXPECT_FALSE(FillRopeTable({.theta = kTheta, .head_dim = 3, .table = odd}, stream).ok());
}

}  // namespace
}  // namespace isthmus
