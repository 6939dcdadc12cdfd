#include "ops/rms_norm.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/reference.h"

namespace isthmus {
namespace {

using reference::Buffer;
using reference::ExpectAgrees;
using reference::Matrix;
using reference::Normal;

constexpr double kEpsilon = 1e-5;

struct RmsNormShape {
  int64_t rows, columns, padding;
};
const std::vector<RmsNormShape> kRmsNormShapes = {{1, 1, 0},    {3, 7, 0},    {2, 17, 3},   {33, 64, 0},  {70, 509, 5},
                                                  {5, 1000, 0}, {66, 512, 0}, {3, 4104, 8}, {2, 20000, 0}};

std::vector<double> InverseOf(const Matrix& s) {
  std::vector<double> inverse;
  for (int64_t n = 0; n < s.rows; ++n) {
    double squares = 0;
    for (int64_t i = 0; i < s.columns; ++i) squares += s(n, i) * s(n, i);
    inverse.push_back(1 / std::sqrt(squares / static_cast<double>(s.columns) + kEpsilon));
  }
  return inverse;
}

Matrix NormOf(const Matrix& s, const Matrix& weight) {
  const std::vector<double> inverse = InverseOf(s);
  Matrix y(s.rows, s.columns);
  for (int64_t n = 0; n < s.rows; ++n) {
    for (int64_t i = 0; i < s.columns; ++i) y(n, i) = s(n, i) * inverse[static_cast<size_t>(n)] * weight(0, i);
  }
  return y;
}

// Computes the gradient by the textbook's formula, ∂y_j/∂s_i = w_j (δ_ij r - s_i s_j r³ / D), summed over j.
Matrix GradOf(const Matrix& grad_y, const Matrix& s, const Matrix& weight) {
  const std::vector<double> inverse = InverseOf(s);
  Matrix grad(s.rows, s.columns);
  for (int64_t n = 0; n < s.rows; ++n) {
    const double r = inverse[static_cast<size_t>(n)];
    double along = 0;  // of the gradient of the normed row, on the row
    for (int64_t j = 0; j < s.columns; ++j) along += grad_y(n, j) * weight(0, j) * s(n, j);
    for (int64_t i = 0; i < s.columns; ++i) {
      grad(n, i) = grad_y(n, i) * weight(0, i) * r - s(n, i) * r * r * r / static_cast<double>(s.columns) * along;
    }
  }
  return grad;
}

TEST(RmsNorm, ForwardMatchesReferenceInEveryTypeAndShape) {
  Stream& stream = reference::TestStream();
  for (const DType dtype : reference::FloatTypes()) {
    for (const RmsNormShape& shape : kRmsNormShapes) {
      SCOPED_TRACE(testing::Message() << Name(dtype) << " " << shape.rows << "x" << shape.columns);
      const Buffer x(dtype, Normal(shape.rows, shape.columns, 1, 3), shape.padding);
      const Buffer weight(dtype, Normal(1, shape.columns, 2));
      Buffer y(dtype, shape.rows, shape.columns, shape.padding), inverse(AccumulationType(dtype), 1, shape.rows);
      ASSERT_TRUE(
          RmsNormForward({.x = x, .weight = weight, .y = y, .inverse = inverse, .epsilon = kEpsilon}, stream).ok());
      ExpectAgrees("y", y, NormOf(x.Get(), weight.Get()), dtype);
      Matrix expected(1, shape.rows);
      expected.values = InverseOf(x.Get());
      ExpectAgrees("inverse", inverse, expected, AccumulationType(dtype));
    }
  }
}

TEST(RmsNorm, AddsTheResidualFirstAndNormalisesWhatItStored) {
  Stream& stream = reference::TestStream();
  for (const DType dtype : reference::FloatTypes()) {
    for (const RmsNormShape& shape : kRmsNormShapes) {
      SCOPED_TRACE(testing::Message() << Name(dtype) << " " << shape.rows << "x" << shape.columns);
      Buffer x(dtype, Normal(shape.rows, shape.columns, 1), shape.padding);
      const Buffer addend(dtype, Normal(shape.rows, shape.columns, 3), 1);
      const Buffer weight(dtype, Normal(1, shape.columns, 2));
      Matrix sum = x.Get();
      const Matrix addition = addend.Get();
      for (size_t i = 0; i < sum.values.size(); ++i) sum.values[i] += addition.values[i];
      const Buffer rounded(dtype, sum);
      Buffer y(dtype, shape.rows, shape.columns), inverse(AccumulationType(dtype), 1, shape.rows);
      ASSERT_TRUE(
          RmsNormForward({.x = x, .addend = addend, .sum = x, .weight = weight, .y = y, .inverse = inverse}, stream)
              .ok());
      EXPECT_EQ(x.Get().values, rounded.Get().values);
      ExpectAgrees("y", y, NormOf(rounded.Get(), weight.Get()), dtype);
    }
  }
}

// A factor of 0 would turn such a row and its gradient into zeros, which look sound.
TEST(RmsNorm, ARowWhoseSquaresOverflowIsNotANumberAndTheOthersAreAsEver) {
  Stream& stream = reference::TestStream();
  for (const DType dtype : reference::FloatTypes()) {
    for (const RmsNormShape& shape : {RmsNormShape{3, 7, 0}, RmsNormShape{3, 512, 0}}) {
      for (const bool with_addend : {false, true}) {
        SCOPED_TRACE(testing::Message() << Name(dtype) << " " << shape.columns << " " << with_addend);
        Matrix values = Normal(shape.rows, shape.columns, 1);
        values(1, 2) = dtype == DType::kFloat64 ? 1e160 : 1e20;  // finite; its square is not
        Buffer x(dtype, values);
        const Buffer addend(dtype, shape.rows, shape.columns), weight(dtype, Normal(1, shape.columns, 2));
        Buffer y(dtype, shape.rows, shape.columns), inverse(AccumulationType(dtype), 1, shape.rows);
        ASSERT_TRUE(RmsNormForward({.x = x,
                                    .addend = with_addend ? addend.tensor() : Tensor(),
                                    .sum = with_addend ? x.tensor() : Tensor(),
                                    .weight = weight,
                                    .y = y,
                                    .inverse = inverse},
                                   stream)
                        .ok());
        const Matrix factors = inverse.Get(), normed = y.Get();
        for (int64_t row = 0; row < shape.rows; ++row) {
          EXPECT_EQ(std::isnan(factors(0, row)), row == 1);
          EXPECT_EQ(std::isnan(normed(row, 3)), row == 1);
        }
      }
    }
  }
}

TEST(RmsNorm, BackwardMatchesReferenceAndAddsToGradients) {
  Stream& stream = reference::TestStream();
  for (const DType dtype : reference::FloatTypes()) {
    for (const RmsNormShape& shape : kRmsNormShapes) {
      for (const bool accumulate : {true, false}) {
        SCOPED_TRACE(testing::Message() << Name(dtype) << " " << shape.rows << "x" << shape.columns << " accumulate "
                                        << accumulate);
        const DType sums = AccumulationType(dtype);
        const Buffer x(dtype, Normal(shape.rows, shape.columns, 1), shape.padding);
        const Buffer weight(dtype, Normal(1, shape.columns, 2));
        const Buffer grad_y(dtype, Normal(shape.rows, shape.columns, 3), shape.padding);
        Buffer grad_x(dtype, Normal(shape.rows, shape.columns, 4), shape.padding);
        Buffer grad_weight(sums, Normal(1, shape.columns, 5));
        Matrix inverse_values(1, shape.rows);
        inverse_values.values = InverseOf(x.Get());
        const Buffer inverse(sums, inverse_values);
        const Buffer workspace(sums, RmsNormWorkspaceRows(shape.rows), shape.columns);

        Matrix expected_x = GradOf(grad_y.Get(), x.Get(), weight.Get());
        Matrix expected_weight = grad_weight.Get();
        const Matrix x64 = x.Get(), grad_y64 = grad_y.Get(), before = grad_x.Get();
        for (int64_t n = 0; n < shape.rows; ++n) {
          for (int64_t i = 0; i < shape.columns; ++i) {
            if (accumulate) expected_x(n, i) += before(n, i);
            expected_weight(0, i) += grad_y64(n, i) * x64(n, i) * inverse_values(0, n);
          }
        }
        ASSERT_TRUE(RmsNormBackward({.grad_y = grad_y,
                                     .x = x,
                                     .weight = weight,
                                     .inverse = inverse,
                                     .grad_x = grad_x,
                                     .grad_weight = grad_weight,
                                     .workspace = workspace,
                                     .accumulate = accumulate},
                                    stream)
                        .ok());
        // Cancellation leaves only rounding in a single column's gradient.
        if (shape.columns > 1 || accumulate) ExpectAgrees("grad_x", grad_x, expected_x, dtype);
        ExpectAgrees("grad_weight", grad_weight, expected_weight, sums);
      }
    }
  }
}

TEST(RmsNorm, GradientMatchesFiniteDifferencesAtOddWidths) {
  if (reference::OnGpu()) GTEST_SKIP() << "fp64 runs on the CPU";
  Stream& stream = reference::TestStream();
  for (const int64_t columns : {3, 7, 17}) {
    const int64_t rows = 5;
    const Matrix c = Normal(rows, columns, 6), x64 = Normal(rows, columns, 1), weight64 = Normal(1, columns, 2);
    const DType dtype = DType::kFloat64;
    const auto loss = [&](const Matrix& x_values, const Matrix& weight_values) {
      const Buffer x(dtype, x_values), weight(dtype, weight_values);
      Buffer y(dtype, rows, columns), inverse(dtype, 1, rows);
      EXPECT_TRUE(RmsNormForward({.x = x, .weight = weight, .y = y, .inverse = inverse}, stream).ok());
      return reference::Dot(c, y.Get());
    };
    const Buffer x(dtype, x64), weight(dtype, weight64), grad_y(dtype, c);
    Buffer y(dtype, rows, columns), inverse(dtype, 1, rows), grad_x(dtype, rows, columns),
        grad_weight(dtype, 1, columns);
    const Buffer workspace(dtype, RmsNormWorkspaceRows(rows), columns);
    ASSERT_TRUE(RmsNormForward({.x = x, .weight = weight, .y = y, .inverse = inverse}, stream).ok());
    ASSERT_TRUE(RmsNormBackward({.grad_y = grad_y,
                                 .x = x,
                                 .weight = weight,
                                 .inverse = inverse,
                                 .grad_x = grad_x,
                                 .grad_weight = grad_weight,
                                 .workspace = workspace},
                                stream)
                    .ok());
    ExpectAgrees("grad_x", grad_x.Get(),
                 reference::FiniteDifferences(x64, [&](const Matrix& m) { return loss(m, weight64); }), 1e-6);
    ExpectAgrees("grad_weight", grad_weight.Get(),
                 reference::FiniteDifferences(weight64, [&](const Matrix& m) { return loss(x64, m); }), 1e-6);
  }
}

TEST(RmsNorm, BitsDoNotDependOnThreads) {
  Stream& stream = reference::TestStream();
  for (const DType dtype : reference::FloatTypes()) {
    reference::ExpectSameBitsForAnyThreads([&] {
      const int64_t rows = 301, columns = 1003;
      const DType sums = AccumulationType(dtype);
      const Buffer x(dtype, Normal(rows, columns, 1)), weight(dtype, Normal(1, columns, 2)),
          grad_y(dtype, Normal(rows, columns, 3));
      Buffer y(dtype, rows, columns), inverse(sums, 1, rows), grad_x(dtype, rows, columns),
          grad_weight(sums, 1, columns);
      const Buffer workspace(sums, RmsNormWorkspaceRows(rows), columns);
      EXPECT_TRUE(RmsNormForward({.x = x, .weight = weight, .y = y, .inverse = inverse}, stream).ok());
      EXPECT_TRUE(RmsNormBackward({.grad_y = grad_y,
                                   .x = x,
                                   .weight = weight,
                                   .inverse = inverse,
                                   .grad_x = grad_x,
                                   .grad_weight = grad_weight,
                                   .workspace = workspace},
                                  stream)
                      .ok());
      return y.Bytes() + inverse.Bytes() + grad_x.Bytes() + grad_weight.Bytes();
    });
  }
}

TEST(RmsNorm, RejectsTensorsThatDisagreeAndSaysWhich) {
  Stream& stream = reference::TestStream();
  const Buffer x(DType::kFloat32, 4, 8), weight(DType::kFloat32, 1, 8), y(DType::kFloat32, 4, 8),
      inverse(DType::kFloat32, 1, 4);
  const Buffer wrong(DType::kFloat32, 4, 7), integers(DType::kInt32, 4, 8);
  absl::Status status = RmsNormForward({.x = x, .weight = weight, .y = wrong, .inverse = inverse}, stream);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("RmsNormForward: y is fp32 [4, 7]"));
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("needs fp32 [4, 8]"));
  EXPECT_FALSE(RmsNormForward({.x = integers, .weight = weight, .y = y, .inverse = inverse}, stream).ok());
  // An addend needs a place for the sum.
  EXPECT_FALSE(RmsNormForward({.x = x, .addend = y, .weight = weight, .y = y, .inverse = inverse}, stream).ok());
  EXPECT_FALSE(RmsNormBackward({.grad_y = y,
                                .x = x,
                                .weight = weight,
                                .inverse = inverse,
                                .grad_x = y,
                                .grad_weight = weight,
                                .workspace = wrong},
                               stream)
                   .ok());
}

}  // namespace
}  // namespace isthmus
