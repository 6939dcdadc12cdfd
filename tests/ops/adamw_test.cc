#include "ops/adamw.h"

#include <gtest/gtest.h>

#include <cmath>

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
        second(dtype, 1, n),
        compute(DType::kBFloat16, 1, n) {
    Matrix squares = Normal(1, n, 4, 0.3);
    for (double& value : squares.values) value *= value;
    second.Set(squares);
  }
  AdamWArgs Args(int64_t step) const {
    return {.weight = weight,
            .grad = grad,
            .first_moment = first,
            .second_moment = second,
            .compute_weight = compute,
            .learning_rate = 3e-2,
            .beta1 = 0.9,
            .beta2 = 0.95,
            .epsilon = 1e-8,
            .weight_decay = 0.1,
            .grad_scale = 0.7,
            .step = step};
  }
  std::string Bytes() const { return weight.Bytes() + first.Bytes() + second.Bytes() + compute.Bytes(); }

  Buffer weight, grad, first, second, compute;
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
    const int64_t n = 131;
    const AdamwState whole(dtype, n);
    ASSERT_TRUE(AdamW(whole.Args(2), stream).ok());
    for (int64_t split = 1; split < n; ++split) {
      const AdamwState parts(dtype, n);
      for (const auto& [begin, count] : {std::pair(int64_t{0}, split), std::pair(split, n - split)}) {
        AdamWArgs args = parts.Args(2);
        args.grad = args.grad.ColumnSlice(begin, count);
        for (Tensor* tensor : {&args.weight, &args.first_moment, &args.second_moment, &args.compute_weight}) {
          *tensor = tensor->ColumnSlice(begin, count);
        }
        ASSERT_TRUE(AdamW(args, stream).ok());
      }
      ASSERT_TRUE(parts.Bytes() == whole.Bytes()) << Name(dtype) << " split at " << split;
    }
  }
}

TEST(AdamW, BitsDoNotDependOnThreads) {
  Stream& stream = reference::TestStream();
  reference::ExpectSameBitsForAnyThreads([&] {
    const AdamwState state(DType::kFloat32, 70001);
    EXPECT_TRUE(AdamW(state.Args(3), stream).ok());
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
}

}  // namespace
}  // namespace isthmus
