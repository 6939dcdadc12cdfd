#include "ops/weight_step.h"

#include <gtest/gtest.h>

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

// Holds the tensors of a step, for n elements.
struct WeightStepState {
  WeightStepState(DType dtype, int64_t n)
      : weight(dtype, Normal(1, n, 1)), direction(dtype, Normal(1, n, 2)), compute(DType::kBFloat16, 1, n) {}
  WeightStepArgs Args() const {
    return {.weight = weight,
            .direction = direction,
            .compute_weight = compute,
            .learning_rate = 3e-2,
            .scale = 1.7,
            .weight_decay = 0.1};
  }
  std::string Bytes() const { return weight.Bytes() + direction.Bytes() + compute.Bytes(); }

  Buffer weight, direction, compute;
};

TEST(WeightStep, MatchesTheFormula) {
  Stream& stream = reference::TestStream();
  for (const DType dtype : reference::SumTypes()) {
    for (const int64_t n : {1, 3, 7, 17, 509, 1000, 40001}) {
      SCOPED_TRACE(testing::Message() << Name(dtype) << " " << n);
      const WeightStepState state(dtype, n);
      const std::string direction_before = state.direction.Bytes();
      const WeightStepArgs args = state.Args();
      Matrix w = state.weight.Get();
      const Matrix direction = state.direction.Get();
      for (size_t i = 0; i < w.values.size(); ++i) {
        w.values[i] -= args.learning_rate * (args.scale * direction.values[i] + args.weight_decay * w.values[i]);
      }
      ASSERT_TRUE(WeightStep(args, stream).ok());
      ExpectAgrees("weight", state.weight, w, dtype);
      EXPECT_EQ(state.compute.Get().values, Buffer(DType::kBFloat16, state.weight.Get()).Get().values);
      EXPECT_TRUE(state.direction.Bytes() == direction_before);
    }
  }
}

TEST(WeightStep, NeedsNoComputeWeightAndDoesNotDecayByDefault) {
  Stream& stream = reference::TestStream();
  for (const DType dtype : reference::SumTypes()) {
    const WeightStepState state(dtype, 37);
    Matrix w = state.weight.Get();
    const Matrix direction = state.direction.Get();
    for (size_t i = 0; i < w.values.size(); ++i) w.values[i] -= 0.5 * direction.values[i];
    ASSERT_TRUE(WeightStep({.weight = state.weight, .direction = state.direction, .learning_rate = 0.5}, stream).ok());
    ExpectAgrees("weight", state.weight, w, dtype);
    const Tensor empty(nullptr, dtype, 1, 0);
    EXPECT_TRUE(WeightStep({.weight = empty, .direction = empty, .learning_rate = 0.5}, stream).ok());
  }
}

TEST(WeightStep, ADecayIsOffByNoMoreThanTheRoundingOfTheWeight) {
  constexpr int64_t kCount = 1003;
  for (const DType dtype : reference::SumTypes()) {
    const int digits = dtype == DType::kFloat64 ? 53 : 24;
    for (const double decay : {3e-8, 1e-6, 1e-4, 3e-17, 1.7e-16}) {
      SCOPED_TRACE(testing::Message() << Name(dtype) << " " << decay);
      const Buffer weight(dtype, Normal(1, kCount, 1)), direction(dtype, 1, kCount);
      const Matrix before = weight.Get();
      ASSERT_TRUE(
          WeightStep({.weight = weight, .direction = direction, .learning_rate = decay / 0.25, .weight_decay = 0.25},
                     reference::TestStream())
              .ok());
      const Matrix after = weight.Get();
      for (size_t i = 0; i < before.values.size(); ++i) {
        const long double w = before.values[i];
        const auto expected = w - static_cast<long double>(decay) * w;
        // Half of the gap between the weight and its neighbour, plus the rounding of the product in it.
        const double allowed = std::ldexp(1 + 1e-3, std::ilogb(before.values[i]) - digits);
        ASSERT_LE(std::abs(static_cast<double>(after.values[i] - expected)), allowed) << before.values[i];
      }
    }
  }
}

TEST(WeightStep, NaNIsNotHidden) {
  Stream& stream = reference::TestStream();
  for (const DType dtype : reference::SumTypes()) {
    WeightStepState state(dtype, 9);
    Matrix weight = state.weight.Get(), direction = state.direction.Get();
    weight(0, 8) = direction(0, 1) = std::nan("");
    state.weight.Set(weight);
    state.direction.Set(direction);
    ASSERT_TRUE(WeightStep(state.Args(), stream).ok());
    const Matrix after = state.weight.Get(), compute = state.compute.Get();
    for (int64_t i = 0; i < 9; ++i) {
      EXPECT_EQ(std::isnan(after(0, i)), i == 1 || i == 8) << i;
      EXPECT_EQ(std::isnan(compute(0, i)), i == 1 || i == 8) << i;
    }
  }
}

// This makes a sharded optimizer equal an unsharded one bit for bit.
TEST(WeightStep, BitsDoNotDependOnWhereARangeIsSplit) {
  Stream& stream = reference::TestStream();
  for (const DType dtype : reference::SumTypes()) {
    const int64_t n = 131;
    const WeightStepState whole(dtype, n);
    ASSERT_TRUE(WeightStep(whole.Args(), stream).ok());
    for (int64_t split = 1; split < n; ++split) {
      const WeightStepState parts(dtype, n);
      for (const auto& [begin, count] : {std::pair(int64_t{0}, split), std::pair(split, n - split)}) {
        WeightStepArgs args = parts.Args();
        args.weight = args.weight.ColumnSlice(begin, count);
        args.direction = args.direction.ColumnSlice(begin, count);
        args.compute_weight = args.compute_weight.ColumnSlice(begin, count);
        ASSERT_TRUE(WeightStep(args, stream).ok());
      }
      ASSERT_TRUE(parts.Bytes() == whole.Bytes()) << Name(dtype) << " split at " << split;
    }
  }
}

TEST(WeightStep, BitsDoNotDependOnThreads) {
  Stream& stream = reference::TestStream();
  reference::ExpectSameBitsForAnyThreads([&] {
    const WeightStepState state(DType::kFloat32, 70001);
    EXPECT_TRUE(WeightStep(state.Args(), stream).ok());
    return state.Bytes();
  });
}

TEST(WeightStep, RejectsTensorsThatDisagree) {
  Stream& stream = reference::TestStream();
  const WeightStepState state(DType::kFloat32, 8), other(DType::kFloat32, 9), wide(DType::kFloat64, 8),
      half(DType::kBFloat16, 8);
  EXPECT_EQ(WeightStep(half.Args(), stream).code(), absl::StatusCode::kInvalidArgument);
  WeightStepArgs args = state.Args();
  args.direction = other.direction;
  EXPECT_EQ(WeightStep(args, stream).code(), absl::StatusCode::kInvalidArgument);
  args.direction = wide.direction;
  EXPECT_EQ(WeightStep(args, stream).code(), absl::StatusCode::kInvalidArgument);
  args = state.Args();
  args.compute_weight = state.direction;
  EXPECT_EQ(WeightStep(args, stream).code(), absl::StatusCode::kInvalidArgument);
  args = state.Args();
  args.weight = args.weight.Reshape(2, 4);
  EXPECT_EQ(WeightStep(args, stream).code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace isthmus
