#include "ops/layer_norm.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/support/reference.h"

namespace isthmus {
namespace {

using reference::Buffer;
using reference::ExpectAgrees;
using reference::Matrix;
using reference::Normal;

constexpr double kLayerNormEpsilon = 1e-5;

struct LayerNormShape {
  int64_t rows, columns, padding;
};
const std::vector<LayerNormShape> kLayerNormShapes = {{1, 2, 0},    {3, 7, 0},    {2, 17, 3},   {33, 64, 0},
                                                      {70, 509, 5}, {66, 512, 0}, {3, 6152, 8}, {2, 20000, 0}};

// Row 0: means, row 1: inverse deviations.
Matrix StatisticsOf(const Matrix& s) {
  Matrix statistics(2, s.rows);
  const auto width = static_cast<double>(s.columns);
  for (int64_t n = 0; n < s.rows; ++n) {
    double mean = 0, squares = 0;
    for (int64_t i = 0; i < s.columns; ++i) mean += s(n, i) / width;
    for (int64_t i = 0; i < s.columns; ++i) squares += (s(n, i) - mean) * (s(n, i) - mean);
    statistics(0, n) = mean;
    statistics(1, n) = 1 / std::sqrt(squares / width + kLayerNormEpsilon);
  }
  return statistics;
}

Matrix NormalisedOf(const Matrix& s) {
  const Matrix statistics = StatisticsOf(s);
  Matrix normed(s.rows, s.columns);
  for (int64_t n = 0; n < s.rows; ++n) {
    for (int64_t i = 0; i < s.columns; ++i) normed(n, i) = (s(n, i) - statistics(0, n)) * statistics(1, n);
  }
  return normed;
}

Matrix LayerNormOf(const Matrix& s, const Matrix& weight, const Matrix& bias) {
  Matrix y = NormalisedOf(s);
  for (int64_t n = 0; n < s.rows; ++n) {
    for (int64_t i = 0; i < s.columns; ++i) y(n, i) = y(n, i) * weight(0, i) + bias(0, i);
  }
  return y;
}

// Computes the gradient by the Jacobian, ∂y_j/∂s_i = w_j r (δ_ij - 1/D - h_i h_j / D), summed over j.
Matrix LayerNormGradOf(const Matrix& grad_y, const Matrix& s, const Matrix& weight) {
  const Matrix statistics = StatisticsOf(s), h = NormalisedOf(s);
  Matrix grad(s.rows, s.columns);
  const auto width = static_cast<double>(s.columns);
  for (int64_t n = 0; n < s.rows; ++n) {
    double along = 0, total = 0;
    for (int64_t j = 0; j < s.columns; ++j) {
      along += grad_y(n, j) * weight(0, j) * h(n, j);
      total += grad_y(n, j) * weight(0, j);
    }
    for (int64_t i = 0; i < s.columns; ++i) {
      grad(n, i) = statistics(1, n) * (grad_y(n, i) * weight(0, i) - total / width - h(n, i) * along / width);
    }
  }
  return grad;
}

// The tensors of one forward and backward pass. Rows have `padding` elements behind them.
struct LayerNormPass {
  Buffer x, weight, bias, y, statistics, grad_y, grad_x, grad_weight, grad_bias, workspace;

  LayerNormPass(DType dtype, const LayerNormShape& shape)
      : LayerNormPass(dtype, Normal(shape.rows, shape.columns, 1, 3), Normal(1, shape.columns, 2),
                      Normal(1, shape.columns, 3), shape.padding) {}
  LayerNormPass(DType dtype, const Matrix& x64, const Matrix& weight64, const Matrix& bias64, int64_t padding = 0)
      : x(dtype, x64, padding),
        weight(dtype, weight64),
        bias(dtype, bias64),
        y(dtype, x64.rows, x64.columns, padding),
        statistics(AccumulationType(dtype), 2, x64.rows),
        grad_y(dtype, Normal(x64.rows, x64.columns, 4), padding),
        grad_x(dtype, Normal(x64.rows, x64.columns, 5), padding),
        grad_weight(AccumulationType(dtype), Normal(1, x64.columns, 6)),
        grad_bias(AccumulationType(dtype), Normal(1, x64.columns, 7)),
        workspace(AccumulationType(dtype), LayerNormWorkspaceRows(x64.rows), x64.columns) {}

  LayerNormForwardArgs Forward() {
    return {.x = x, .weight = weight, .bias = bias, .y = y, .statistics = statistics, .epsilon = kLayerNormEpsilon};
  }
  LayerNormBackwardArgs Backward() {
    return {.grad_y = grad_y,
            .x = x,
            .weight = weight,
            .statistics = statistics,
            .grad_x = grad_x,
            .grad_weight = grad_weight,
            .grad_bias = grad_bias,
            .workspace = workspace};
  }
};

TEST(LayerNorm, ForwardMatchesReferenceInEveryTypeAndShape) {
  Stream& stream = reference::TestStream();
  for (const DType dtype : reference::FloatTypes()) {
    for (const LayerNormShape& shape : kLayerNormShapes) {
      SCOPED_TRACE(testing::Message() << Name(dtype) << " " << shape.rows << "x" << shape.columns);
      LayerNormPass pass(dtype, shape);
      ASSERT_TRUE(LayerNormForward(pass.Forward(), stream).ok());
      ExpectAgrees("y", pass.y, LayerNormOf(pass.x.Get(), pass.weight.Get(), pass.bias.Get()), dtype);
      ExpectAgrees("statistics", pass.statistics, StatisticsOf(pass.x.Get()), AccumulationType(dtype));
    }
  }
}

// A mean of squares less the square of the mean would lose all digits here.
TEST(LayerNorm, AFarMeanCostsNoDigits) {
  Stream& stream = reference::TestStream();
  Matrix values = Normal(3, 70, 1);
  for (double& value : values.values) value += 4096;
  LayerNormPass pass(DType::kFloat32, values, Normal(1, 70, 2), Normal(1, 70, 3));
  ASSERT_TRUE(LayerNormForward(pass.Forward(), stream).ok());
  // The mean of a row has the rounding of its sum, a few units of 2⁻¹² with few lanes, which the weight multiplies.
  ExpectAgrees("y", pass.y.Get(), LayerNormOf(pass.x.Get(), pass.weight.Get(), pass.bias.Get()), 4e-3);
}

TEST(LayerNorm, AddsTheResidualFirstAndNormalisesWhatItStored) {
  Stream& stream = reference::TestStream();
  for (const DType dtype : reference::FloatTypes()) {
    for (const LayerNormShape& shape : kLayerNormShapes) {
      SCOPED_TRACE(testing::Message() << Name(dtype) << " " << shape.rows << "x" << shape.columns);
      LayerNormPass pass(dtype, shape);
      const Buffer addend(dtype, Normal(shape.rows, shape.columns, 8), 1);
      Matrix sum = pass.x.Get();
      const Matrix addition = addend.Get();
      for (size_t i = 0; i < sum.values.size(); ++i) sum.values[i] += addition.values[i];
      const Buffer rounded(dtype, sum);
      LayerNormForwardArgs args = pass.Forward();
      args.addend = addend;
      args.sum = pass.x;
      ASSERT_TRUE(LayerNormForward(args, stream).ok());
      EXPECT_EQ(pass.x.Get().values, rounded.Get().values);
      ExpectAgrees("y", pass.y, LayerNormOf(rounded.Get(), pass.weight.Get(), pass.bias.Get()), dtype);
    }
  }
}

// A factor of 0 would turn such a row into the bias, which looks sound.
TEST(LayerNorm, ARowWhoseSquaresOverflowIsNotANumberAndTheOthersAreAsEver) {
  Stream& stream = reference::TestStream();
  for (const DType dtype : reference::FloatTypes()) {
    for (const int64_t columns : {7, 512}) {
      SCOPED_TRACE(testing::Message() << Name(dtype) << " " << columns);
      Matrix values = Normal(3, columns, 1);
      values(1, 2) = dtype == DType::kFloat64 ? 1e160 : 1e20;  // finite; its square is not
      LayerNormPass pass(dtype, values, Normal(1, columns, 2), Normal(1, columns, 3));
      ASSERT_TRUE(LayerNormForward(pass.Forward(), stream).ok());
      const Matrix statistics = pass.statistics.Get(), y = pass.y.Get();
      for (int64_t row = 0; row < 3; ++row) {
        EXPECT_EQ(std::isnan(statistics(1, row)), row == 1);
        EXPECT_EQ(std::isnan(y(row, 3)), row == 1);
      }
    }
  }
}

TEST(LayerNorm, BackwardMatchesReferenceAndAddsToGradients) {
  Stream& stream = reference::TestStream();
  for (const DType dtype : reference::FloatTypes()) {
    for (const LayerNormShape& shape : kLayerNormShapes) {
      for (const bool accumulate : {true, false}) {
        SCOPED_TRACE(testing::Message() << Name(dtype) << " " << shape.rows << "x" << shape.columns << " accumulate "
                                        << accumulate);
        LayerNormPass pass(dtype, shape);
        const Buffer statistics(AccumulationType(dtype), StatisticsOf(pass.x.Get()));
        Matrix expected_x = LayerNormGradOf(pass.grad_y.Get(), pass.x.Get(), pass.weight.Get());
        Matrix expected_weight = pass.grad_weight.Get(), expected_bias = pass.grad_bias.Get();
        const Matrix h = NormalisedOf(pass.x.Get()), grad_y = pass.grad_y.Get(), before = pass.grad_x.Get();
        for (int64_t n = 0; n < shape.rows; ++n) {
          for (int64_t i = 0; i < shape.columns; ++i) {
            if (accumulate) expected_x(n, i) += before(n, i);
            expected_weight(0, i) += grad_y(n, i) * h(n, i);
            expected_bias(0, i) += grad_y(n, i);
          }
        }
        LayerNormBackwardArgs args = pass.Backward();
        args.accumulate = accumulate;
        args.statistics = statistics;
        ASSERT_TRUE(LayerNormBackward(args, stream).ok());
        // Cancellation leaves only rounding in the gradient of two columns.
        if (shape.columns > 2 || accumulate) ExpectAgrees("grad_x", pass.grad_x, expected_x, dtype);
        ExpectAgrees("grad_weight", pass.grad_weight, expected_weight, AccumulationType(dtype));
        ExpectAgrees("grad_bias", pass.grad_bias, expected_bias, AccumulationType(dtype));
      }
    }
  }
}

TEST(LayerNorm, GradientMatchesFiniteDifferencesAtOddWidths) {
  if (reference::OnGpu()) GTEST_SKIP() << "fp64 runs on the CPU";
  Stream& stream = reference::TestStream();
  for (const int64_t columns : {3, 7, 17}) {
    const Matrix x64 = Normal(5, columns, 1), weight64 = Normal(1, columns, 2), bias64 = Normal(1, columns, 3);
    LayerNormPass pass(DType::kFloat64, x64, weight64, bias64);
    const auto loss = [&](const Matrix& x, const Matrix& weight, const Matrix& bias) {
      LayerNormPass other(DType::kFloat64, x, weight, bias);
      EXPECT_TRUE(LayerNormForward(other.Forward(), stream).ok());
      return reference::Dot(pass.grad_y.Get(), other.y.Get());
    };
    const Matrix weight_before = pass.grad_weight.Get(), bias_before = pass.grad_bias.Get();
    ASSERT_TRUE(LayerNormForward(pass.Forward(), stream).ok());
    LayerNormBackwardArgs args = pass.Backward();
    args.accumulate = false;
    ASSERT_TRUE(LayerNormBackward(args, stream).ok());
    const auto added = [](Matrix after, const Matrix& before) {
      for (size_t i = 0; i < after.values.size(); ++i) after.values[i] -= before.values[i];
      return after;
    };
    ExpectAgrees("grad_x", pass.grad_x.Get(),
                 reference::FiniteDifferences(x64, [&](const Matrix& m) { return loss(m, weight64, bias64); }), 1e-6);
    ExpectAgrees("grad_weight", added(pass.grad_weight.Get(), weight_before),
                 reference::FiniteDifferences(weight64, [&](const Matrix& m) { return loss(x64, m, bias64); }), 1e-6);
    ExpectAgrees("grad_bias", added(pass.grad_bias.Get(), bias_before),
                 reference::FiniteDifferences(bias64, [&](const Matrix& m) { return loss(x64, weight64, m); }), 1e-6);
  }
}

TEST(LayerNorm, BitsDoNotDependOnThreads) {
  Stream& stream = reference::TestStream();
  for (const DType dtype : reference::FloatTypes()) {
    reference::ExpectSameBitsForAnyThreads([&] {
      LayerNormPass pass(dtype, {301, 1003, 0});
      EXPECT_TRUE(LayerNormForward(pass.Forward(), stream).ok());
      EXPECT_TRUE(LayerNormBackward(pass.Backward(), stream).ok());
      return pass.y.Bytes() + pass.statistics.Bytes() + pass.grad_x.Bytes() + pass.grad_weight.Bytes() +
             pass.grad_bias.Bytes();
    });
  }
}

TEST(LayerNorm, RejectsTensorsThatDisagreeAndSaysWhich) {
  Stream& stream = reference::TestStream();
  LayerNormPass pass(DType::kFloat32, {4, 8, 0});
  const Buffer wrong(DType::kFloat32, 4, 7);
  LayerNormForwardArgs args = pass.Forward();
  args.bias = wrong;
  const absl::Status status = LayerNormForward(args, stream);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("LayerNormForward: bias is fp32 [4, 7]"));
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("needs fp32 [1, 8]"));
  // An addend needs a place for the sum.
  args = pass.Forward();
  args.addend = pass.y;
  EXPECT_FALSE(LayerNormForward(args, stream).ok());
  LayerNormBackwardArgs backward = pass.Backward();
  backward.workspace = wrong;
  EXPECT_FALSE(LayerNormBackward(backward, stream).ok());
  backward = pass.Backward();
  backward.grad_bias = wrong;
  EXPECT_FALSE(LayerNormBackward(backward, stream).ok());
}

}  // namespace
}  // namespace isthmus
