#include "ops/future_targets.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "ops/cross_entropy.h"
#include "tests/support/reference.h"

namespace isthmus {
namespace {

using reference::Buffer;
using reference::ExpectAgrees;
using reference::Matrix;
using reference::Normal;

constexpr double kFutureScale = 0.125;
const LossForm kFutureForms[] = {{}, {.soft_cap = 3}, {.z_loss = 0.05}, {.soft_cap = 5, .z_loss = 0.02}};
const std::vector<double> kSomeWeights[] = {{0.5}, {1, 0, 0.25}, {0.3, 0.7, 2}};

// A case has the targets [1 + K, C] of tokens, uneven shards of the vocabulary, and the form of the loss.
struct FutureCase {
  std::vector<int64_t> bounds;
  std::vector<double> weights;
  LossForm form;
  Matrix targets;

  FutureCase(const std::vector<int64_t>& shards, const std::vector<double>& of, const LossForm& with, int64_t tokens)
      : bounds(shards), weights(of), form(with), targets(1 + std::ssize(of), tokens) {
    // Tokens 0, 4, … have all targets alike, and tokens 1, 5, … have the last two.
    for (int64_t n = 0; n < tokens; ++n) {
      for (int64_t k = 0; k < targets.rows; ++k) {
        const int64_t row = n % 4 == 0 ? 0 : n % 4 == 1 ? std::min(k, std::max<int64_t>(targets.rows - 2, 0)) : k;
        targets(k, n) = static_cast<double>((n * 7919 + row * 31) % bounds.back());
      }
    }
  }
  int64_t offsets() const { return std::ssize(weights); }
  int64_t shards() const { return std::ssize(bounds) - 1; }
};

struct FutureResult {
  Matrix losses, energy, grad;
};

// Follows the formula of the whole loss, with one softmax in fp64.
FutureResult FutureReference(const Matrix& logits, const FutureCase& on) {
  FutureResult r{Matrix(on.offsets(), logits.rows), Matrix(on.shards(), logits.rows),
                 Matrix(logits.rows, logits.columns)};
  const double cap = on.form.soft_cap;
  for (int64_t n = 0; n < logits.rows; ++n) {
    std::vector<double> z, slopes;
    for (int64_t v = 0; v < logits.columns; ++v) {
      z.push_back(cap > 0 ? cap * std::tanh(logits(n, v) / cap) : logits(n, v));
      slopes.push_back(cap > 0 ? std::pow(std::cosh(logits(n, v) / cap), -2) : 1);
    }
    // 1 - p_v is the mass of all others, so that nothing cancels.
    const double top = *std::max_element(z.begin(), z.end());
    const auto mass = [&](int64_t without) {
      double sum = 0;
      for (int64_t v = 0; v < logits.columns; ++v) {
        if (v != without) sum += std::exp(z[static_cast<size_t>(v)] - top);
      }
      return sum;
    };
    const double total = mass(-1), log_sum_exp = top + std::log(total);
    for (int64_t v = 0; v < logits.columns; ++v) {
      const auto at = static_cast<size_t>(v);
      const double p = std::exp(z[at] - log_sum_exp);
      double gradient = 2 * on.form.z_loss * log_sum_exp * p;
      for (int64_t k = 0; k <= on.offsets(); ++k) {
        const double weight = k == 0 ? 1 : on.weights[static_cast<size_t>(k - 1)];
        gradient += weight * (on.targets(k, n) == static_cast<double>(v) ? -mass(v) / total : p);
      }
      r.grad(n, v) = kFutureScale * slopes[at] * gradient;
      for (int64_t shard = 0; shard < on.shards(); ++shard) {
        if (v < on.bounds[static_cast<size_t>(shard)] || v >= on.bounds[static_cast<size_t>(shard) + 1]) continue;
        r.energy(shard, n) += slopes[at] * gradient * slopes[at] * gradient;
      }
    }
    for (int64_t k = 1; k <= on.offsets(); ++k) {
      const auto y = static_cast<int64_t>(on.targets(k, n));
      const double others = mass(y), own = total - others;
      r.losses(k - 1, n) = others < own ? std::log1p(others / std::exp(z[static_cast<size_t>(y)] - top))
                                        : log_sum_exp - z[static_cast<size_t>(y)];
    }
  }
  return r;
}

// Runs all operators of a chunk as P tensor ranks would. The gradient is in the memory of the logits if it has their
// type.
FutureResult FutureOnShards(const Buffer& logits, const FutureCase& on, DType dtype, DType grad_dtype) {
  Stream& stream = reference::TestStream();
  const Tensor all = logits;
  const int64_t tokens = all.rows, width = kCrossEntropyStatistics + on.offsets();
  Matrix weight_values(1, on.offsets());
  weight_values.values = on.weights;
  const Buffer targets(DType::kInt32, on.targets, 3), weights(DType::kFloat64, weight_values);
  const Buffer gathered(dtype, on.shards() * tokens, width), loss(dtype, 1, tokens), log_sum_exp(dtype, 1, tokens);
  const Buffer target_weight(dtype, 1, tokens), excess_weight(dtype, 1, tokens), losses(dtype, on.offsets(), tokens, 2);
  const Buffer energy(DType::kFloat64, on.shards(), tokens), narrow(grad_dtype, tokens, all.columns, 3);
  const Tensor out = dtype == grad_dtype ? all : narrow.tensor();
  const auto for_shards = [&](const auto& visit) {
    for (int64_t i = 0; i < on.shards(); ++i) {
      const int64_t begin = on.bounds[static_cast<size_t>(i)], end = on.bounds[static_cast<size_t>(i) + 1];
      const Tensor rows = gathered.tensor().RowSlice(i * tokens, tokens);
      visit(begin, all.ColumnSlice(begin, end - begin), out.ColumnSlice(begin, end - begin), rows);
    }
  };
  const Tensor later = targets.tensor().RowSlice(1, on.offsets()), first = targets.tensor().RowSlice(0, 1);
  for_shards([&](int64_t begin, const Tensor& z, const Tensor& /*grad*/, const Tensor& rows) {
    EXPECT_TRUE(CrossEntropyStatistics({.logits = z,
                                        .targets = first,
                                        .first_row = begin,
                                        .form = on.form,
                                        .statistics = rows.ColumnSlice(0, kCrossEntropyStatistics)},
                                       stream)
                    .ok());
    EXPECT_TRUE(FutureTargetLogits({.logits = z,
                                    .targets = later,
                                    .first_row = begin,
                                    .form = on.form,
                                    .target_logits = rows.ColumnSlice(kCrossEntropyStatistics, on.offsets())},
                                   stream)
                    .ok());
  });
  EXPECT_TRUE(CrossEntropyCombine({.gathered = gathered.tensor().ColumnSlice(0, kCrossEntropyStatistics),
                                   .shards = on.shards(),
                                   .form = on.form,
                                   .loss = loss,
                                   .log_sum_exp = log_sum_exp,
                                   .energy = {}},
                                  stream)
                  .ok());
  EXPECT_TRUE(FutureTargetLosses({.gathered = gathered,
                                  .shards = on.shards(),
                                  .targets = targets,
                                  .weights = weights,
                                  .form = on.form,
                                  .loss = loss,
                                  .losses = losses,
                                  .target_weight = target_weight,
                                  .excess_weight = excess_weight,
                                  .energy = energy},
                                 stream)
                  .ok());
  for_shards([&](int64_t begin, const Tensor& z, const Tensor& grad, const Tensor& rows) {
    EXPECT_TRUE(CrossEntropyGradient({.logits = z,
                                      .targets = first,
                                      .first_row = begin,
                                      .loss = loss,
                                      .log_sum_exp = log_sum_exp,
                                      .form = on.form,
                                      .target_weight = target_weight,
                                      .excess_weight = excess_weight,
                                      .scale = kFutureScale,
                                      .grad_logits = grad},
                                     stream)
                    .ok());
    EXPECT_TRUE(FutureTargetGradient({.targets = targets,
                                      .first_row = begin,
                                      .weights = weights,
                                      .target_logits = rows.ColumnSlice(kCrossEntropyStatistics, on.offsets()),
                                      .log_sum_exp = log_sum_exp,
                                      .form = on.form,
                                      .scale = kFutureScale,
                                      .grad_logits = grad},
                                     stream)
                    .ok());
  });
  EXPECT_TRUE(logits.PaddingUntouched());
  EXPECT_TRUE(narrow.PaddingUntouched());
  EXPECT_TRUE(losses.PaddingUntouched());
  return {losses.Get(), energy.Get(), dtype == grad_dtype ? logits.Get() : narrow.Get()};
}

TEST(FutureTargets, LossesGradientAndEnergyFollowTheFormula) {
  for (const DType dtype : reference::SumTypes()) {
    for (const std::vector<int64_t>& bounds :
         {std::vector<int64_t>{0, 17}, {0, 1, 17}, {0, 400, 509}, {0, 500, 500, 509}}) {
      for (const std::vector<double>& weights : kSomeWeights) {
        for (const LossForm& form : kFutureForms) {
          SCOPED_TRACE(testing::Message()
                       << Name(dtype) << " " << testing::PrintToString(bounds) << " " << testing::PrintToString(weights)
                       << " cap " << form.soft_cap << " z-loss " << form.z_loss);
          const FutureCase on(bounds, weights, form, 13);
          const Buffer logits(dtype, Normal(13, bounds.back(), 1, 4), 2);
          const FutureResult expected = FutureReference(logits.Get(), on);
          const FutureResult found = FutureOnShards(logits, on, dtype, dtype);
          const double tolerance = reference::Tolerance(dtype);
          ExpectAgrees("losses", found.losses, expected.losses, tolerance);
          ExpectAgrees("gradient", found.grad, expected.grad, tolerance);
          ExpectAgrees("energy", found.energy, expected.energy, tolerance);
        }
      }
    }
  }
}

TEST(FutureTargets, GradientOfFp32LogitsCanBeBf16) {
  for (const LossForm& form : kFutureForms) {
    const FutureCase on({0, 200, 509}, {0.5, 0.25}, form, 7);
    const Buffer logits(DType::kFloat32, Normal(7, 509, 1, 4));
    const FutureResult expected = FutureReference(logits.Get(), on);
    const FutureResult found = FutureOnShards(logits, on, DType::kFloat32, DType::kBFloat16);
    ExpectAgrees("gradient", found.grad, expected.grad, reference::Tolerance(DType::kBFloat16));
    ExpectAgrees("energy", found.energy, expected.energy, reference::Tolerance(DType::kFloat32));
  }
}

// All targets of the first token are one class that is nearly certain: its gradient is far below the rounding of 1. The
// first target of the second token is unlikely, and its later one is nearly certain.
TEST(FutureTargets, NothingCancelsWhereAProbabilityIsNearOne) {
  for (const DType dtype : reference::SumTypes()) {
    FutureCase on({0, 9, 41}, {0.5, 0.25}, {}, 2);
    for (int64_t k = 0; k <= 2; ++k) on.targets(k, 0) = 5;
    on.targets(0, 1) = 3;
    on.targets(1, 1) = on.targets(2, 1) = 30;
    Matrix z = Normal(2, 41, 1);
    z(0, 5) = 25;
    z(1, 30) = 25;
    const Buffer logits(dtype, z);
    const FutureResult expected = FutureReference(logits.Get(), on), found = FutureOnShards(logits, on, dtype, dtype);
    EXPECT_LT(expected.losses(0, 0), 1e-8);
    for (int64_t n = 0; n < 2; ++n) {
      for (int64_t v : {3, 5, 30}) {
        EXPECT_NEAR(found.grad(n, v) / expected.grad(n, v), 1, 20 * reference::Tolerance(dtype)) << n << " " << v;
      }
      EXPECT_NEAR(found.energy(0, n) / expected.energy(0, n), 1, 20 * reference::Tolerance(dtype));
    }
    EXPECT_NEAR(found.losses(1, 0) / expected.losses(1, 0), 1, 20 * reference::Tolerance(dtype));
  }
}

TEST(FutureTargets, GradientIsTheDerivativeOfTheLoss) {
  if (reference::OnGpu()) GTEST_SKIP() << "differences need fp64";
  for (const LossForm& form : kFutureForms) {
    const FutureCase on({0, 4, 11}, {0.5, 0.25}, form, 5);
    const Matrix z = Normal(5, 11, 1, 2);
    const auto loss_of = [&](const Matrix& at) {
      double sum = 0;
      for (int64_t n = 0; n < at.rows; ++n) {
        double total = 0;
        for (int64_t v = 0; v < at.columns; ++v) total += std::exp(form.Capped(at(n, v)));
        sum += form.z_loss * std::log(total) * std::log(total);
        for (int64_t k = 0; k <= 2; ++k) {
          const double weight = k == 0 ? 1 : on.weights[static_cast<size_t>(k - 1)];
          sum += weight * (std::log(total) - form.Capped(at(n, static_cast<int64_t>(on.targets(k, n)))));
        }
      }
      return kFutureScale * sum;
    };
    const Buffer logits(DType::kFloat64, z);
    const FutureResult found = FutureOnShards(logits, on, DType::kFloat64, DType::kFloat64);
    EXPECT_LT(reference::RelativeError(found.grad, reference::FiniteDifferences(z, loss_of)), 1e-8);
  }
}

TEST(FutureTargets, WeightsOfZeroGiveThePlainGradient) {
  for (const DType dtype : reference::SumTypes()) {
    const FutureCase none({0, 5, 41}, {0, 0}, {}, 6);
    const Buffer logits(dtype, Normal(6, 41, 1));
    const FutureResult expected = FutureReference(logits.Get(), FutureCase({0, 5, 41}, {}, {}, 6));
    const FutureResult found = FutureOnShards(logits, none, dtype, dtype);
    ExpectAgrees("gradient", found.grad, expected.grad, reference::Tolerance(dtype));
    ExpectAgrees("energy", found.energy, expected.energy, reference::Tolerance(dtype));
  }
}

TEST(FutureTargets, NotANumberStays) {
  const FutureCase on({0, 5, 41}, {0.5, 0.25}, {}, 6);
  Matrix z = Normal(6, 41, 1);
  z(2, static_cast<int64_t>(on.targets(1, 2))) = std::nan("");
  const Buffer logits(DType::kFloat32, z);
  const FutureResult found = FutureOnShards(logits, on, DType::kFloat32, DType::kFloat32);
  EXPECT_TRUE(std::isnan(found.losses(0, 2)) && std::isnan(found.energy(0, 2)));
  EXPECT_TRUE(std::isfinite(found.losses(0, 3)) && std::isfinite(found.energy(0, 3)));
}

TEST(FutureTargets, WrongShapesAreErrors) {
  Stream& stream = reference::TestStream();
  const Buffer logits(DType::kFloat32, 4, 9), targets(DType::kInt32, 3, 4), two(DType::kInt32, 2, 4),
      found(DType::kFloat32, 4, 2), weights(DType::kFloat64, 1, 2), line(DType::kFloat32, 1, 4),
      gathered(DType::kFloat32, 4, 6), losses(DType::kFloat32, 2, 4), energy(DType::kFloat64, 1, 4),
      narrow(DType::kBFloat16, 4, 2);
  EXPECT_TRUE(FutureTargetLogits({.logits = logits, .targets = two, .target_logits = found}, stream).ok());
  EXPECT_FALSE(FutureTargetLogits({.logits = logits, .targets = targets, .target_logits = found}, stream).ok());
  EXPECT_FALSE(FutureTargetLogits({.logits = narrow, .targets = two, .target_logits = found}, stream).ok());
  const FutureTargetLossesArgs good = {.gathered = gathered,
                                       .targets = targets,
                                       .weights = weights,
                                       .loss = line,
                                       .losses = losses,
                                       .target_weight = line,
                                       .excess_weight = line,
                                       .energy = energy};
  EXPECT_TRUE(FutureTargetLosses(good, stream).ok());
  FutureTargetLossesArgs wrong = good;
  wrong.targets = two;
  EXPECT_FALSE(FutureTargetLosses(wrong, stream).ok());
  wrong = good;
  wrong.shards = 2;
  EXPECT_FALSE(FutureTargetLosses(wrong, stream).ok());
  const FutureTargetGradientArgs gradient = {.targets = targets,
                                             .weights = weights,
                                             .target_logits = found,
                                             .log_sum_exp = line,
                                             .form = {},
                                             .grad_logits = logits};
  EXPECT_TRUE(FutureTargetGradient(gradient, stream).ok());
  FutureTargetGradientArgs other = gradient;
  other.targets = two;
  EXPECT_FALSE(FutureTargetGradient(other, stream).ok());
  other = gradient;
  other.weights = line;
  EXPECT_FALSE(FutureTargetGradient(other, stream).ok());
}

}  // namespace
}  // namespace isthmus
