#include "ops/adamw.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "tests/support/reference.h"

namespace isthmus {
namespace {

using reference::Buffer;
using reference::ExpectAgrees;
using reference::Matrix;
using reference::Normal;

// Holds weight, moments and the other operands of a step, for n elements.
struct AdamwState {
  AdamwState(DType dtype, int64_t n)
      : weight(dtype, Normal(1, n, 1)),
        grad(dtype, Normal(1, n, 2)),
        first(dtype, Normal(1, n, 3, 0.1)),
        second(dtype, Squares(n, 4)),
        largest(dtype, Squares(n, 5)),
        compute(DType::kBFloat16, 1, n) {}
  static Matrix Squares(int64_t n, uint32_t stream) {
    Matrix squares = Normal(1, n, stream, 0.3);
    for (double& value : squares.values) value *= value;
    return squares;
  }
  AdamWArgs Args(int64_t step, bool maximum = false) const {
    return {.weight = weight,
            .grad = grad,
            .first_moment = first,
            .second_moment = second,
            .max_second_moment = maximum ? largest : Tensor(),
            .compute_weight = compute,
            .learning_rate = 3e-2,
            .beta1 = 0.9,
            .beta2 = 0.95,
            .epsilon = 1e-8,
            .weight_decay = 0.1,
            .grad_scale = 0.7,
            .step = step};
  }
  std::string Bytes() const {
    return weight.Bytes() + first.Bytes() + second.Bytes() + largest.Bytes() + compute.Bytes();
  }

  Buffer weight, grad, first, second, largest, compute;
};

TEST(AdamW, ThreeStepsMatchTheAlgorithm) {
  Stream& stream = reference::TestStream();
  for (const DType dtype : reference::SumTypes()) {
    for (const int64_t n : {1, 3, 7, 17, 509, 1000, 40001}) {
      SCOPED_TRACE(testing::Message() << Name(dtype) << " " << n);
      const AdamwState state(dtype, n);
      Matrix w = state.weight.Get(), m = state.first.Get(), v = state.second.Get();
      const Matrix grad = state.grad.Get();
      for (int64_t step = 1; step <= 3; ++step) {
        const AdamWArgs args = state.Args(step);
        for (size_t i = 0; i < w.values.size(); ++i) {
          const double g = grad.values[i] * args.grad_scale;
          m.values[i] = args.beta1 * m.values[i] + (1 - args.beta1) * g;
          v.values[i] = args.beta2 * v.values[i] + (1 - args.beta2) * g * g;
          const double m_hat = m.values[i] / (1 - std::pow(args.beta1, static_cast<double>(step)));
          const double v_hat = v.values[i] / (1 - std::pow(args.beta2, static_cast<double>(step)));
          w.values[i] -= args.learning_rate * args.weight_decay * w.values[i];
          w.values[i] -= args.learning_rate * m_hat / (std::sqrt(v_hat) + args.epsilon);
        }
        ASSERT_TRUE(AdamW(args, stream).ok());
      }
      ExpectAgrees("weight", state.weight, w, dtype);
      ExpectAgrees("first moment", state.first, m, dtype);
      ExpectAgrees("second moment", state.second, v, dtype);
      EXPECT_EQ(state.compute.Get().values, Buffer(DType::kBFloat16, state.weight.Get()).Get().values);
    }
  }
}

// Three steps with gradients that shrink. They leave the second moment below the largest so far.
void TakeShrinkingSteps(AdamwState& state, bool maximum) {
  Matrix grad = state.grad.Get();
  for (int64_t step = 1; step <= 3; ++step) {
    state.grad.Set(grad);
    ASSERT_TRUE(AdamW(state.Args(step, maximum), reference::TestStream()).ok());
    for (double& value : grad.values) value *= 0.1;
  }
}

TEST(AdamW, ThreeStepsWithAMaximumMatchAmsgrad) {
  for (const DType dtype : reference::SumTypes()) {
    for (const int64_t n : {1, 3, 7, 17, 509, 1000, 40001}) {
      SCOPED_TRACE(testing::Message() << Name(dtype) << " " << n);
      AdamwState state(dtype, n);
      Matrix w = state.weight.Get(), m = state.first.Get(), v = state.second.Get(), x = state.largest.Get();
      const Matrix grad = state.grad.Get();
      for (int64_t step = 1; step <= 3; ++step) {
        const AdamWArgs args = state.Args(step, true);
        const double correction1 = 1 - std::pow(args.beta1, static_cast<double>(step));
        const double correction2 = 1 - std::pow(args.beta2, static_cast<double>(step));
        for (size_t i = 0; i < w.values.size(); ++i) {
          const double g = grad.values[i] * std::pow(0.1, static_cast<double>(step - 1)) * args.grad_scale;
          m.values[i] = args.beta1 * m.values[i] + (1 - args.beta1) * g;
          v.values[i] = args.beta2 * v.values[i] + (1 - args.beta2) * g * g;
          x.values[i] = std::max(x.values[i], v.values[i]);
          w.values[i] -= args.learning_rate * args.weight_decay * w.values[i];
          w.values[i] -= args.learning_rate * (m.values[i] / correction1) /
                         (std::sqrt(x.values[i]) / std::sqrt(correction2) + args.epsilon);
        }
      }
      TakeShrinkingSteps(state, true);
      ExpectAgrees("weight", state.weight, w, dtype);
      ExpectAgrees("first moment", state.first, m, dtype);
      ExpectAgrees("second moment", state.second, v, dtype);
      ExpectAgrees("largest second moment", state.largest, x, dtype);
      EXPECT_EQ(state.compute.Get().values, Buffer(DType::kBFloat16, state.weight.Get()).Get().values);
    }
  }
}

TEST(AdamW, AMaximumChangesTheWeightsAndNoMoment) {
  for (const DType dtype : reference::SumTypes()) {
    AdamwState with(dtype, 509), without(dtype, 509);
    const std::string untouched = without.largest.Bytes();
    TakeShrinkingSteps(with, true);
    TakeShrinkingSteps(without, false);
    EXPECT_FALSE(Agrees(with.weight.Get(), without.weight.Get(), reference::Tolerance(dtype))) << Name(dtype);
    EXPECT_TRUE(with.first.Bytes() == without.first.Bytes()) << Name(dtype);
    EXPECT_TRUE(with.second.Bytes() == without.second.Bytes()) << Name(dtype);
    EXPECT_TRUE(without.largest.Bytes() == untouched) << Name(dtype);
  }
}

TEST(AdamW, BitsAreTheSameWithAMaximumThatTheSecondMomentReaches) {
  for (const DType dtype : reference::SumTypes()) {
    AdamwState zero(dtype, 509);
    const AdamwState plain(dtype, 509);
    zero.largest.Set(Matrix(1, 509));
    ASSERT_TRUE(AdamW(zero.Args(1, true), reference::TestStream()).ok());
    ASSERT_TRUE(AdamW(plain.Args(1), reference::TestStream()).ok());
    EXPECT_TRUE(zero.weight.Bytes() == plain.weight.Bytes()) << Name(dtype);
    EXPECT_TRUE(zero.largest.Bytes() == plain.second.Bytes()) << Name(dtype);
  }
}

TEST(AdamW, NaNStaysInTheMaximum) {
  for (const DType dtype : reference::SumTypes()) {
    AdamwState state(dtype, 9);
    Matrix grad = state.grad.Get(), largest = state.largest.Get();
    grad(0, 1) = largest(0, 8) = std::nan("");
    state.grad.Set(grad);
    state.largest.Set(largest);
    ASSERT_TRUE(AdamW(state.Args(1, true), reference::TestStream()).ok());
    const Matrix after = state.largest.Get(), weight = state.weight.Get();
    for (int64_t i = 0; i < 9; ++i) {
      EXPECT_EQ(std::isnan(after(0, i)), i == 1 || i == 8) << i;
      EXPECT_EQ(std::isnan(weight(0, i)), i == 1 || i == 8) << i;
    }
  }
}

TEST(AdamW, FirstStepOfTheTextbookMovesByTheLearningRate) {
  if (reference::OnGpu()) GTEST_SKIP() << "fp64 runs on the CPU";
  Stream& stream = reference::TestStream();
  const Buffer weight(DType::kFloat64, 1, 1), grad(DType::kFloat64, Matrix(1, 1, 123)), first(DType::kFloat64, 1, 1),
      second(DType::kFloat64, 1, 1);
  ASSERT_TRUE(AdamW({.weight = weight,
                     .grad = grad,
                     .first_moment = first,
                     .second_moment = second,
                     .learning_rate = 0.5,
                     .step = 1},
                    stream)
                  .ok());
  EXPECT_NEAR(weight.Get()(0, 0), -0.5, 1e-9);
}

// Takes a step without a gradient, which changes weights of many sizes by the decay alone.
Matrix DecayedOnce(const Buffer& weight, double decay, int64_t step) {
  const Matrix before = weight.Get();
  const auto n = before.columns;
  const DType dtype = weight.tensor().dtype;
  const Buffer grad(dtype, 1, n), first(dtype, 1, n), second(dtype, 1, n);
  EXPECT_TRUE(AdamW({.weight = weight,
                     .grad = grad,
                     .first_moment = first,
                     .second_moment = second,
                     .learning_rate = decay / 0.25,
                     .weight_decay = 0.25,
                     .step = step},
                    reference::TestStream())
                  .ok());
  return weight.Get();
}

// Half of the gap between `value` and its neighbour, plus the rounding of the product in it.
double RoundingOf(double value, DType dtype) {
  const int digits = dtype == DType::kFloat64 ? 53 : 24;
  return std::ldexp(1 + 1e-3, std::ilogb(value) - digits);
}

TEST(AdamW, ADecayIsOffByNoMoreThanTheRoundingOfTheWeight) {
  for (const DType dtype : reference::SumTypes()) {
    for (const double decay : {3e-8, 1e-6, 1e-4, 3e-17, 1.7e-16}) {
      SCOPED_TRACE(testing::Message() << Name(dtype) << " " << decay);
      const Buffer weight(dtype, Normal(1, 1003, 1));
      const Matrix before = weight.Get(), after = DecayedOnce(weight, decay, 5);
      for (size_t i = 0; i < before.values.size(); ++i) {
        const long double w = before.values[i];
        const auto expected = w - static_cast<long double>(decay) * w;
        ASSERT_LE(std::abs(static_cast<double>(after.values[i] - expected)), RoundingOf(before.values[i], dtype)) << w;
      }
    }
  }
}

// The roundings cancel over weights that are spread over a binade. A rounded factor is rounded alike for all of them.
TEST(AdamW, ManyTinyDecaysAddUp) {
  const DType dtype = DType::kFloat32;
  constexpr int64_t kSteps = 300;
  const double decay = std::ldexp(16.48, -24);  // 1 - decay is rounded by 3 % of the decay
  Matrix weights(1, 4096);
  for (size_t i = 0; i < weights.values.size(); ++i) weights.values[i] = 1 + static_cast<double>(i) / 4500;
  const Buffer weight(dtype, weights);
  const Matrix before = weight.Get();
  Matrix after = before;
  for (int64_t step = 1; step <= kSteps; ++step) after = DecayedOnce(weight, decay, step);
  double lost = 0, sum = 0;
  for (size_t i = 0; i < before.values.size(); ++i) {
    sum += before.values[i];
    lost += before.values[i] - after.values[i];
  }
  EXPECT_NEAR(lost / sum, 1 - std::pow(1 - decay, static_cast<double>(kSteps)), 0.005 * decay * kSteps);
}

// This makes a sharded optimizer equal an unsharded one bit for bit.
TEST(AdamW, BitsDoNotDependOnWhereARangeIsSplit) {
  Stream& stream = reference::TestStream();
  for (const DType dtype : reference::SumTypes()) {
    for (const bool maximum : {false, true}) {
      const int64_t n = 131;
      const AdamwState whole(dtype, n);
      ASSERT_TRUE(AdamW(whole.Args(2, maximum), stream).ok());
      for (int64_t split = 1; split < n; ++split) {
        const AdamwState parts(dtype, n);
        for (const auto& [begin, count] : {std::pair(int64_t{0}, split), std::pair(split, n - split)}) {
          AdamWArgs args = parts.Args(2, maximum);
          args.grad = args.grad.ColumnSlice(begin, count);
          for (Tensor* tensor :
               {&args.weight, &args.first_moment, &args.second_moment, &args.max_second_moment, &args.compute_weight}) {
            if (tensor->defined()) *tensor = tensor->ColumnSlice(begin, count);
          }
          ASSERT_TRUE(AdamW(args, stream).ok());
        }
        ASSERT_TRUE(parts.Bytes() == whole.Bytes()) << Name(dtype) << " maximum " << maximum << " split at " << split;
      }
    }
  }
}

TEST(AdamW, BitsDoNotDependOnThreads) {
  Stream& stream = reference::TestStream();
  reference::ExpectSameBitsForAnyThreads([&] {
    const AdamwState state(DType::kFloat32, 70001);
    EXPECT_TRUE(AdamW(state.Args(3), stream).ok());
    EXPECT_TRUE(AdamW(state.Args(4, true), stream).ok());
    return state.Bytes();
  });
}

TEST(AdamW, RejectsTensorsThatDisagreeAndStepZero) {
  Stream& stream = reference::TestStream();
  const AdamwState state(DType::kFloat32, 8), other(DType::kFloat32, 9), wide(DType::kFloat64, 8);
  EXPECT_EQ(AdamW(state.Args(0), stream).code(), absl::StatusCode::kInvalidArgument);
  AdamWArgs args = state.Args(1);
  args.second_moment = other.second;
  EXPECT_FALSE(AdamW(args, stream).ok());
  args = state.Args(1);
  args.grad = wide.grad;
  EXPECT_FALSE(AdamW(args, stream).ok());
  args = state.Args(1);
  args.compute_weight = state.grad;
  EXPECT_FALSE(AdamW(args, stream).ok());
  args = state.Args(1);
  args.max_second_moment = other.largest;
  EXPECT_EQ(AdamW(args, stream).code(), absl::StatusCode::kInvalidArgument);
  args.max_second_moment = wide.largest;
  EXPECT_EQ(AdamW(args, stream).code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace isthmus
