#include "ops/pointer_loss.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "tests/support/reference.h"

namespace isthmus {
namespace {

using reference::Buffer;
using reference::ExpectAgrees;
using reference::Matrix;
using reference::Normal;

constexpr int64_t kPointed = 37;  // tokens
constexpr double kPointerScale = 0.25;

struct PointerInputs {
  Matrix vocabulary_loss, log_sum_exp, pointer_log_sum_exp, log_match, slot, sink;

  // Masses of all sizes, and a token without a match.
  PointerInputs()
      : vocabulary_loss(Normal(1, kPointed, 1, 4)),
        log_sum_exp(Normal(1, kPointed, 2, 3)),
        pointer_log_sum_exp(Normal(1, kPointed, 3, 2)),
        log_match(Normal(1, kPointed, 4, 5)),
        slot(Normal(kPointed, 1, 5, 3)),
        sink(1, 1, -0.75) {
    for (double& value : vocabulary_loss.values) value = std::fabs(value);
    for (double& value : pointer_log_sum_exp.values) value = std::fabs(value) + sink(0, 0);
    for (int64_t n = 0; n < kPointed; ++n) {
      // The mass of the match is at most what the sink leaves.
      const double most = std::log(-std::expm1(sink(0, 0) - pointer_log_sum_exp(0, n)));
      log_match(0, n) = most - std::fabs(log_match(0, n));
    }
    log_match(0, 3) = -std::numeric_limits<double>::infinity();
  }
};

struct PointerBuffersOfLoss {
  Buffer vocabulary_loss, log_sum_exp, pointer_log_sum_exp, log_match, slot, sink;
  Buffer loss, target_weight, excess_weight, grad_log_match, grad_log_sink, grad_slot;

  PointerBuffersOfLoss(const PointerInputs& in, DType type)
      : vocabulary_loss(AccumulationType(type), in.vocabulary_loss),
        log_sum_exp(AccumulationType(type), in.log_sum_exp),
        pointer_log_sum_exp(AccumulationType(type), in.pointer_log_sum_exp),
        log_match(AccumulationType(type), in.log_match),
        slot(AccumulationType(type), in.slot, 3),
        sink(type, in.sink),
        loss(AccumulationType(type), 1, kPointed),
        target_weight(AccumulationType(type), 1, kPointed),
        excess_weight(AccumulationType(type), 1, kPointed),
        grad_log_match(AccumulationType(type), 1, kPointed),
        grad_log_sink(AccumulationType(type), 1, kPointed),
        grad_slot(type, kPointed, 1, 2) {}

  absl::Status Run(bool gradients = true) const {
    PointerLossArgs args = {.vocabulary_loss = vocabulary_loss,
                            .log_sum_exp = log_sum_exp,
                            .pointer_log_sum_exp = pointer_log_sum_exp,
                            .log_match = log_match,
                            .slot = slot,
                            .sink = sink,
                            .scale = kPointerScale,
                            .loss = loss};
    if (gradients) {
      args.target_weight = target_weight;
      args.excess_weight = excess_weight;
      args.grad_log_match = grad_log_match;
      args.grad_log_sink = grad_log_sink;
      args.grad_slot = grad_slot;
    }
    return PointerLoss(args, reference::TestStream());
  }
  PointerInputs Rounded() const {
    PointerInputs in;
    in.vocabulary_loss = vocabulary_loss.Get();
    in.log_sum_exp = log_sum_exp.Get();
    in.pointer_log_sum_exp = pointer_log_sum_exp.Get();
    in.log_match = log_match.Get();
    in.slot = slot.Get();
    in.sink = sink.Get();
    return in;
  }
};

// The probability as its definition states it, of the target's own probability and of masses.
double MixedProbability(double target, double share, double sink_mass, double match) {
  return target * (1 - share * (1 - sink_mass)) + share * match;
}
double SlotShare(const PointerInputs& in, int64_t n) {
  return 1 / (1 + std::exp(in.log_sum_exp(0, n) - in.slot(n, 0)));
}
double PointerLossOf(const PointerInputs& in, int64_t n) {
  return -std::log(MixedProbability(std::exp(-in.vocabulary_loss(0, n)), SlotShare(in, n),
                                    std::exp(in.sink(0, 0) - in.pointer_log_sum_exp(0, n)),
                                    std::exp(in.log_match(0, n))));
}

TEST(PointerLoss, MatchesTheDefinitionInEveryType) {
  for (const DType type : reference::FloatTypes()) {
    SCOPED_TRACE(Name(type));
    const PointerInputs made;
    const PointerBuffersOfLoss b(made, type);
    ASSERT_TRUE(b.Run().ok());
    const PointerInputs in = b.Rounded();
    Matrix loss(1, kPointed), target(1, kPointed), excess(1, kPointed), match(1, kPointed), sink(1, kPointed),
        slot(kPointed, 1);
    for (int64_t n = 0; n < kPointed; ++n) {
      const double p = std::exp(-in.vocabulary_loss(0, n)), share = SlotShare(in, n);
      const double sink_mass = std::exp(in.sink(0, 0) - in.pointer_log_sum_exp(0, n));
      const double matched = std::exp(in.log_match(0, n)), total = MixedProbability(p, share, sink_mass, matched);
      // The derivatives by the masses, from which the operator's by their logarithms follow.
      const double by_share = -(matched - p * (1 - sink_mass)) / total;
      loss(0, n) = PointerLossOf(in, n);
      target(0, n) = p * (1 - share * (1 - sink_mass)) / total;
      slot(n, 0) = kPointerScale * by_share * share * (1 - share);
      excess(0, n) = -slot(n, 0) / kPointerScale;
      match(0, n) = kPointerScale * -share / total * matched;
      sink(0, n) = kPointerScale * -p * share / total * sink_mass;
    }
    const DType sum_type = AccumulationType(type);
    ExpectAgrees("loss", b.loss, loss, sum_type);
    ExpectAgrees("target_weight", b.target_weight, target, sum_type);
    ExpectAgrees("excess_weight", b.excess_weight, excess, sum_type);
    ExpectAgrees("grad_log_match", b.grad_log_match, match, sum_type);
    ExpectAgrees("grad_log_sink", b.grad_log_sink, sink, sum_type);
    ExpectAgrees("grad_slot", b.grad_slot, slot, type);
    const PointerBuffersOfLoss alone(made, type);
    ASSERT_TRUE(alone.Run(/*gradients=*/false).ok());
    EXPECT_TRUE(alone.loss.Bytes() == b.loss.Bytes());
  }
}

// The target's logit moves vocabulary_loss and log_sum_exp: with p of the target, by p - 1 and by p. Another one's moves
// both by its p.
TEST(PointerLoss, WeightsAndGradientsMatchFiniteDifferences) {
  if (reference::OnGpu()) GTEST_SKIP() << "fp64 runs on the CPU";
  const PointerInputs in;
  const PointerBuffersOfLoss b(in, DType::kFloat64);
  ASSERT_TRUE(b.Run().ok());
  constexpr double kStep = 1e-5;
  const auto difference = [&](int64_t n, const auto& move) {
    PointerInputs above = in, below = in;
    move(above, n, kStep);
    move(below, n, -kStep);
    return kPointerScale * (PointerLossOf(above, n) - PointerLossOf(below, n)) / (2 * kStep);
  };
  Matrix target(1, kPointed), other(1, kPointed), match(1, kPointed), sink(1, kPointed), slot(kPointed, 1);
  Matrix found_target = target, found_other = target;
  const Matrix tau = b.target_weight.Get(), epsilon = b.excess_weight.Get();
  constexpr double kOther = 0.3;  // the probability of another class
  for (int64_t n = 0; n < kPointed; ++n) {
    const double p = std::exp(-in.vocabulary_loss(0, n));
    target(0, n) = difference(n, [p](PointerInputs& moved, int64_t at, double step) {
      moved.vocabulary_loss(0, at) += (p - 1) * step;
      moved.log_sum_exp(0, at) += p * step;
    });
    other(0, n) = difference(n, [](PointerInputs& moved, int64_t at, double step) {
      moved.vocabulary_loss(0, at) += kOther * step;
      moved.log_sum_exp(0, at) += kOther * step;
    });
    slot(n, 0) = difference(n, [](PointerInputs& moved, int64_t at, double step) { moved.slot(at, 0) += step; });
    match(0, n) = difference(n, [](PointerInputs& moved, int64_t at, double step) { moved.log_match(0, at) += step; });
    sink(0, n) =
        difference(n, [](PointerInputs& moved, int64_t at, double step) { moved.pointer_log_sum_exp(0, at) -= step; });
    found_target(0, n) = kPointerScale * (tau(0, n) * (p - 1) + epsilon(0, n) * p);
    found_other(0, n) = kPointerScale * (tau(0, n) + epsilon(0, n)) * kOther;
  }
  ExpectAgrees("target", found_target, target, 1e-6);
  ExpectAgrees("other", found_other, other, 1e-6);
  ExpectAgrees("slot", b.grad_slot.Get(), slot, 1e-6);
  ExpectAgrees("match", b.grad_log_match.Get(), match, 1e-6);
  ExpectAgrees("sink", b.grad_log_sink.Get(), sink, 1e-6);
}

TEST(PointerLoss, StaysFiniteWhereProbabilitiesUnderflow) {
  PointerInputs in;
  std::fill(in.vocabulary_loss.values.begin(), in.vocabulary_loss.values.end(), 900.0);
  std::fill(in.log_match.values.begin(), in.log_match.values.end(), -2000.0);
  in.slot(0, 0) = -600;
  in.slot(1, 0) = 600;
  for (const DType type : reference::SumTypes()) {
    const PointerBuffersOfLoss b(in, type);
    ASSERT_TRUE(b.Run().ok());
    for (const Buffer* found : {&b.loss, &b.target_weight, &b.excess_weight, &b.grad_log_match, &b.grad_slot}) {
      for (const double value : found->Get().values) EXPECT_TRUE(std::isfinite(value));
    }
    EXPECT_NEAR(b.loss.Get()(0, 0), 900, 1e-3);
  }
}

TEST(PointerLoss, NaNStaysNaN) {
  PointerInputs in;
  in.slot(5, 0) = std::nan("");
  in.log_match(0, 6) = std::nan("");
  in.vocabulary_loss(0, 7) = std::nan("");
  const PointerBuffersOfLoss b(in, DType::kFloat32);
  ASSERT_TRUE(b.Run().ok());
  for (int64_t n = 0; n < kPointed; ++n) EXPECT_EQ(std::isnan(b.loss.Get()(0, n)), n >= 5 && n <= 7) << n;
}

TEST(PointerLoss, BitsDoNotDependOnThreads) {
  const PointerInputs in;
  reference::ExpectSameBitsForAnyThreads([&] {
    const PointerBuffersOfLoss b(in, DType::kFloat32);
    EXPECT_TRUE(b.Run().ok());
    return b.loss.Bytes() + b.excess_weight.Bytes() + b.grad_slot.Bytes();
  });
}

TEST(PointerLoss, RejectsTensorsThatDisagree) {
  const PointerInputs in;
  const PointerBuffersOfLoss b(in, DType::kFloat32);
  const Buffer few(DType::kFloat32, 1, 3), wide(DType::kFloat64, 1, 1), half(DType::kBFloat16, kPointed, 1);
  PointerLossArgs good = {.vocabulary_loss = b.vocabulary_loss,
                          .log_sum_exp = b.log_sum_exp,
                          .pointer_log_sum_exp = b.pointer_log_sum_exp,
                          .log_match = b.log_match,
                          .slot = b.slot,
                          .sink = b.sink,
                          .loss = b.loss};
  const auto code = [](const PointerLossArgs& args) { return PointerLoss(args, reference::TestStream()).code(); };
  ASSERT_EQ(code(good), absl::StatusCode::kOk);
  PointerLossArgs bad = good;
  bad.log_match = few;
  EXPECT_EQ(code(bad), absl::StatusCode::kInvalidArgument);
  bad = good;
  bad.sink = wide;
  EXPECT_EQ(code(bad), absl::StatusCode::kInvalidArgument);
  bad = good;
  bad.slot = half;
  EXPECT_EQ(code(bad), absl::StatusCode::kInvalidArgument);
  bad = good;
  bad.target_weight = b.target_weight;
  EXPECT_EQ(code(bad), absl::StatusCode::kInvalidArgument) << "the other outputs are missing";
}

}  // namespace
}  // namespace isthmus
