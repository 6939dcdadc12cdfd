#include "ops/cross_entropy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "tests/support/reference.h"

namespace isthmus {
namespace {

using reference::Buffer;
using reference::ExpectAgrees;
using reference::Matrix;
using reference::Normal;

constexpr double kScale = 0.125;

struct CrossEntropyResult {
  Matrix loss, log_sum_exp, energy, grad;
};

// Computes the whole softmax at once, in fp64. Sums leave the target out, so that nothing cancels. The slope of a cap is
// the derivative of tanh in another form than the operators have.
CrossEntropyResult Reference(const Matrix& logits, const std::vector<int32_t>& targets,
                             const std::vector<int64_t>& bounds, const LossForm& form = {}) {
  Matrix z = logits;
  const auto slope = [&](int64_t n, int64_t v) {
    return form.soft_cap > 0 ? std::pow(std::cosh(logits(n, v) / form.soft_cap), -2) : 1.0;
  };
  if (form.soft_cap > 0) {
    for (double& value : z.values) value = form.soft_cap * std::tanh(value / form.soft_cap);
  }
  const int64_t shards = static_cast<int64_t>(bounds.size()) - 1;
  CrossEntropyResult r{Matrix(1, z.rows), Matrix(1, z.rows), Matrix(shards, z.rows), Matrix(z.rows, z.columns)};
  for (int64_t n = 0; n < z.rows; ++n) {
    const int64_t y = targets[static_cast<size_t>(n)];
    double top = z(n, 0), others = 0;
    for (int64_t v = 0; v < z.columns; ++v) top = std::max(top, z(n, v));
    for (int64_t v = 0; v < z.columns; ++v) others += v == y ? 0 : std::exp(z(n, v) - top);
    const double own = std::exp(z(n, y) - top), total = others + own;
    r.loss(0, n) = others < own ? std::log1p(others / own) : std::log(total) - std::log(own);
    r.log_sum_exp(0, n) = top + std::log(total);
    for (int64_t shard = 0; shard < shards; ++shard) {
      for (int64_t v = bounds[static_cast<size_t>(shard)]; v < bounds[static_cast<size_t>(shard) + 1]; ++v) {
        const double p = std::exp(z(n, v) - top) / total;
        const double difference =
            slope(n, v) * ((v == y ? -others / total : p) + 2 * form.z_loss * r.log_sum_exp(0, n) * p);
        r.energy(shard, n) += difference * difference;
        r.grad(n, v) = kScale * difference;
      }
    }
  }
  return r;
}

// Runs the three operators as P tensor ranks would.
CrossEntropyResult OnShards(const Buffer& logits, const std::vector<int32_t>& targets,
                            const std::vector<int64_t>& bounds, DType dtype, DType grad_dtype, bool in_place = false,
                            const LossForm& form = {}) {
  Stream& stream = reference::TestStream();
  const Tensor all = logits;
  const int64_t tokens = all.rows, shards = static_cast<int64_t>(bounds.size()) - 1;
  Matrix target_values(1, tokens);
  std::copy(targets.begin(), targets.end(), target_values.values.begin());
  const Buffer target_tensor(DType::kInt32, target_values);
  const Buffer gathered(dtype, shards * tokens, kCrossEntropyStatistics), loss(dtype, 1, tokens),
      log_sum_exp(dtype, 1, tokens);
  const Buffer energy(DType::kFloat64, shards, tokens), grad(grad_dtype, tokens, all.columns, 3);
  const auto shard_of = [&](const Tensor& tensor, int64_t i) {
    const int64_t begin = bounds[static_cast<size_t>(i)];
    return tensor.ColumnSlice(begin, bounds[static_cast<size_t>(i) + 1] - begin);
  };
  for (int64_t i = 0; i < shards; ++i) {
    EXPECT_TRUE(CrossEntropyStatistics({.logits = shard_of(all, i),
                                        .targets = target_tensor,
                                        .first_row = bounds[static_cast<size_t>(i)],
                                        .form = form,
                                        .statistics = gathered.tensor().RowSlice(i * tokens, tokens)},
                                       stream)
                    .ok());
  }
  EXPECT_TRUE(CrossEntropyCombine({.gathered = gathered,
                                   .shards = shards,
                                   .form = form,
                                   .loss = loss,
                                   .log_sum_exp = log_sum_exp,
                                   .energy = energy},
                                  stream)
                  .ok());
  const Tensor out = in_place ? all : grad.tensor();
  for (int64_t i = 0; i < shards; ++i) {
    EXPECT_TRUE(CrossEntropyGradient({.logits = shard_of(all, i),
                                      .targets = target_tensor,
                                      .first_row = bounds[static_cast<size_t>(i)],
                                      .loss = loss,
                                      .log_sum_exp = log_sum_exp,
                                      .form = form,
                                      .scale = kScale,
                                      .grad_logits = shard_of(out, i)},
                                     stream)
                    .ok());
  }
  EXPECT_TRUE(grad.PaddingUntouched());
  EXPECT_TRUE(logits.PaddingUntouched());
  return {loss.Get(), log_sum_exp.Get(), energy.Get(), in_place ? logits.Get() : grad.Get()};
}

std::vector<int32_t> SomeTargets(int64_t tokens, int64_t vocabulary) {
  std::vector<int32_t> targets;
  for (int64_t n = 0; n < tokens; ++n) targets.push_back(static_cast<int32_t>(n * 7919 % vocabulary));
  targets[0] = static_cast<int32_t>(vocabulary - 1);
  return targets;
}

const std::vector<std::vector<int64_t>> kShards = {{0, 1},
                                                   {0, 17},
                                                   {0, 1000},
                                                   {0, 1, 17},
                                                   {0, 400, 1000},
                                                   {0, 0, 17},
                                                   {0, 500, 500, 509},
                                                   {0, 5000, 5001, 5001, 5509},
                                                   {0, 1024, 2048, 2048, 3001}};

const LossForm kForms[] = {{.soft_cap = 3}, {.z_loss = 0.05}, {.soft_cap = 5, .z_loss = 0.02}};

TEST(CrossEntropy, AnyShardsEqualTheWholeSoftmax) {
  for (const DType dtype : reference::SumTypes()) {
    for (const auto& bounds : kShards) {
      for (const bool in_place : {false, true}) {
        const int64_t vocabulary = bounds.back(), tokens = 13;
        SCOPED_TRACE(testing::Message() << Name(dtype) << " " << testing::PrintToString(bounds));
        const Buffer logits(dtype, Normal(tokens, vocabulary, 1, 4), 2);
        const auto targets = SomeTargets(tokens, vocabulary);
        const CrossEntropyResult expected = Reference(logits.Get(), targets, bounds);
        const CrossEntropyResult found = OnShards(logits, targets, bounds, dtype, dtype, in_place);
        const double tolerance = reference::Tolerance(dtype);
        ExpectAgrees("loss", found.loss, expected.loss, tolerance);
        ExpectAgrees("log_sum_exp", found.log_sum_exp, expected.log_sum_exp, tolerance);
        ExpectAgrees("energy", found.energy, expected.energy, tolerance);
        ExpectAgrees("grad", found.grad, expected.grad, tolerance);
      }
    }
  }
}

TEST(CrossEntropy, GradientOfFp32LogitsCanBeBf16) {
  for (const LossForm& form : {LossForm(), kForms[2]}) {
    const Buffer logits(DType::kFloat32, Normal(7, 509, 1, 4));
    const auto targets = SomeTargets(7, 509);
    const std::vector<int64_t> bounds = {0, 200, 509};
    const CrossEntropyResult expected = Reference(logits.Get(), targets, bounds, form);
    const CrossEntropyResult found =
        OnShards(logits, targets, bounds, DType::kFloat32, DType::kBFloat16, /*in_place=*/false, form);
    ExpectAgrees("grad", found.grad, expected.grad, reference::Tolerance(DType::kBFloat16));
  }
}

// Many logits are far beyond the cap.
TEST(CrossEntropy, ACapAndAZLossHaveTheirLossGradientAndEnergyOnAnyShards) {
  for (const LossForm& form : kForms) {
    for (const DType dtype : reference::SumTypes()) {
      for (const auto& bounds : kShards) {
        for (const bool in_place : {false, true}) {
          const int64_t vocabulary = bounds.back(), tokens = 13;
          SCOPED_TRACE(testing::Message() << Name(dtype) << " " << testing::PrintToString(bounds) << " cap "
                                          << form.soft_cap << " z-loss " << form.z_loss);
          const Buffer logits(dtype, Normal(tokens, vocabulary, 1, 4), 2);
          const auto targets = SomeTargets(tokens, vocabulary);
          const CrossEntropyResult expected = Reference(logits.Get(), targets, bounds, form);
          const CrossEntropyResult found = OnShards(logits, targets, bounds, dtype, dtype, in_place, form);
          const double tolerance = reference::Tolerance(dtype);
          ExpectAgrees("loss", found.loss, expected.loss, tolerance);
          ExpectAgrees("log_sum_exp", found.log_sum_exp, expected.log_sum_exp, tolerance);
          ExpectAgrees("energy", found.energy, expected.energy, tolerance);
          ExpectAgrees("grad", found.grad, expected.grad, tolerance);
        }
      }
    }
  }
}

// The energy is the sum of the squares of the gradient that is trained by.
// The formula of ops/loss_form.h, on two shards, with a cap and a z-loss and without.
TEST(CrossEntropy, WeightsOfTokensAreThoseOfTargetAndExcess) {
  Stream& stream = reference::TestStream();
  constexpr int64_t kTokens = 5, kClasses = 41, kFirst = 17;
  const std::vector<int32_t> targets = SomeTargets(kTokens, kClasses);
  Matrix target_values(1, kTokens);
  std::copy(targets.begin(), targets.end(), target_values.values.begin());
  for (const DType dtype : reference::SumTypes()) {
    for (const LossForm& form : {LossForm{}, LossForm{.soft_cap = 2.5, .z_loss = 0.1}}) {
      const Buffer logits(dtype, Normal(kTokens, kClasses, 1)), grad(dtype, kTokens, kClasses);
      const Buffer target_tensor(DType::kInt32, target_values);
      const Buffer target_weight(dtype, Normal(1, kTokens, 2)), excess_weight(dtype, Normal(1, kTokens, 3));
      const CrossEntropyResult plain = Reference(logits.Get(), targets, {0, kClasses}, form);
      const Buffer loss(dtype, plain.loss), log_sum_exp(dtype, plain.log_sum_exp);
      const auto shard = [&](int64_t begin, int64_t end) {
        return CrossEntropyGradient({.logits = logits.tensor().ColumnSlice(begin, end - begin),
                                     .targets = target_tensor,
                                     .first_row = begin,
                                     .loss = loss,
                                     .log_sum_exp = log_sum_exp,
                                     .form = form,
                                     .target_weight = target_weight,
                                     .excess_weight = excess_weight,
                                     .scale = kScale,
                                     .grad_logits = grad.tensor().ColumnSlice(begin, end - begin)},
                                    stream);
      };
      ASSERT_TRUE(shard(0, kFirst).ok());
      ASSERT_TRUE(shard(kFirst, kClasses).ok());
      const Matrix z = logits.Get(), of_target = target_weight.Get(), excess = excess_weight.Get();
      Matrix expected(kTokens, kClasses);
      for (int64_t n = 0; n < kTokens; ++n) {
        for (int64_t v = 0; v < kClasses; ++v) {
          const double capped = form.Capped(z(n, v)), p = std::exp(capped - plain.log_sum_exp(0, n));
          const double miss = p - (v == targets[static_cast<size_t>(n)] ? 1 : 0);
          const double more = excess(0, n) + 2 * form.z_loss * plain.log_sum_exp(0, n);
          expected(n, v) = kScale * form.Slope(capped) * (of_target(0, n) * miss + more * p);
        }
      }
      ExpectAgrees("gradient", grad, expected, dtype);
    }
  }
}

TEST(CrossEntropy, EnergyIsThatOfTheGradient) {
  for (const LossForm& form : kForms) {
    for (const DType dtype : reference::SumTypes()) {
      const Buffer logits(dtype, Normal(7, 509, 1, 4));
      const CrossEntropyResult found =
          OnShards(logits, SomeTargets(7, 509), {0, 200, 509}, dtype, dtype, /*in_place=*/false, form);
      for (int64_t n = 0; n < 7; ++n) {
        double squares[2] = {};
        for (int64_t v = 0; v < 509; ++v) squares[v < 200 ? 0 : 1] += std::pow(found.grad(n, v) / kScale, 2);
        for (int64_t shard = 0; shard < 2; ++shard) {
          EXPECT_NEAR(found.energy(shard, n) / squares[shard], 1, 10 * reference::Tolerance(dtype));
        }
      }
    }
  }
}

TEST(CrossEntropy, CappedLogitsAreThoseOfTheSoftmax) {
  for (const DType dtype : reference::SumTypes()) {
    for (const int64_t columns : {1, 17, 512, 1003}) {
      Matrix z = Normal(5, columns, 1, 20);
      z(0, columns - 1) = std::numeric_limits<double>::infinity();
      z(1, 0) = -std::numeric_limits<double>::infinity();
      z(2, columns / 2) = std::nan("");
      const Buffer logits(dtype, z, 2);
      Matrix expected = logits.Get();
      ASSERT_TRUE(CapLogits({.logits = logits, .soft_cap = 15}, reference::TestStream()).ok());
      EXPECT_TRUE(logits.PaddingUntouched());
      Matrix found = logits.Get();
      for (const auto& [row, column] : {std::pair<int64_t, int64_t>(0, columns - 1), {1, 0}, {2, columns / 2}}) {
        // A logit that is not finite stays as it is.
        EXPECT_FALSE(std::isfinite(found(row, column)));
        found(row, column) = expected(row, column) = 1;
      }
      for (double& value : expected.values) value = value == 1 ? 1 : 15 * std::tanh(value / 15);
      ExpectAgrees("capped", found, expected, reference::Tolerance(dtype));
    }
  }
}

TEST(CrossEntropy, SumsOfALargeVocabularyKeepSixDigits) {
  const int64_t vocabulary = 50257;
  const Buffer logits(DType::kFloat32, Normal(3, vocabulary, 1, 3));
  const auto targets = SomeTargets(3, vocabulary);
  const CrossEntropyResult expected = Reference(logits.Get(), targets, {0, vocabulary});
  const CrossEntropyResult found = OnShards(logits, targets, {0, vocabulary}, DType::kFloat32, DType::kFloat32);
  for (int64_t n = 0; n < 3; ++n) {
    EXPECT_NEAR(found.log_sum_exp(0, n), expected.log_sum_exp(0, n), 1e-6 * expected.log_sum_exp(0, n));
    EXPECT_NEAR(found.energy(0, n) / expected.energy(0, n), 1, 2e-6);
  }
}

TEST(CrossEntropy, GradientMatchesFiniteDifferences) {
  if (reference::OnGpu()) GTEST_SKIP() << "fp64 runs on the CPU";
  const Matrix z = Normal(3, 17, 1, 2);
  const std::vector<int32_t> targets = {4, 16, 0};
  for (const LossForm& form : {LossForm(), kForms[0], kForms[1], kForms[2]}) {
    const auto run = [&](const Matrix& values) {
      const Buffer logits(DType::kFloat64, values);
      return OnShards(logits, targets, {0, 5, 17}, DType::kFloat64, DType::kFloat64, /*in_place=*/false, form);
    };
    const auto loss = [&](const Matrix& values) {
      const CrossEntropyResult found = run(values);
      double sum = 0;
      for (int64_t n = 0; n < 3; ++n) {
        sum += found.loss(0, n) + form.z_loss * found.log_sum_exp(0, n) * found.log_sum_exp(0, n);
      }
      return kScale * sum;
    };
    ExpectAgrees("grad", run(z).grad, reference::FiniteDifferences(z, loss), 1e-6);
  }
}

TEST(CrossEntropy, NearlyCertainTargetKeepsItsRelativeAccuracy) {
  for (const DType dtype : reference::SumTypes()) {
    for (const double miss : {1e-3, 1e-9, 1e-15}) {
      SCOPED_TRACE(testing::Message() << Name(dtype) << " 1 - p_y = " << miss);
      Matrix z(1, 101);
      z(0, 57) = -std::log(miss / 100);
      const Buffer logits(dtype, z);
      const std::vector<int64_t> bounds = {0, 50, 101};
      const CrossEntropyResult expected = Reference(logits.Get(), {57}, bounds);
      const CrossEntropyResult found = OnShards(logits, {57}, bounds, dtype, dtype);
      const double tolerance = reference::Tolerance(dtype);
      EXPECT_NEAR(found.loss(0, 0) / expected.loss(0, 0), 1, tolerance);
      EXPECT_NEAR(found.energy(0, 0) / expected.energy(0, 0), 1, tolerance);
      EXPECT_NEAR(found.energy(1, 0) / expected.energy(1, 0), 1, tolerance);
      EXPECT_NEAR(found.grad(0, 57) / expected.grad(0, 57), 1, tolerance);
      // The formula without care, Σ p² - 2 p_y + 1, would not pass.
      const double p = 1 - miss, careless = p * p - 2 * p + 1;
      if (miss < 1e-8) {
        EXPECT_GT(std::fabs(careless / (miss * miss) - 1), 1e-2);
      }
    }
  }
}

TEST(CrossEntropy, HugeAndFarLogitsNeitherOverflowNorVanish) {
  for (const DType dtype : reference::SumTypes()) {
    Matrix z = Normal(2, 3000, 1);
    for (int64_t v = 0; v < 3000; ++v) z(0, v) += 10 * static_cast<double>(v);  // the maximum moves in every block
    for (int64_t v = 0; v < 3000; ++v) z(1, v) = -30000 - z(1, v);
    const Buffer logits(dtype, z);
    const std::vector<int32_t> targets = {5, 5};
    const CrossEntropyResult expected = Reference(logits.Get(), targets, {0, 1500, 3000});
    const CrossEntropyResult found = OnShards(logits, targets, {0, 1500, 3000}, dtype, dtype);
    // The reference's logarithm of the underflowed target is infinite; the kernel's loss is the difference.
    EXPECT_NEAR(found.loss(0, 0), logits.Get()(0, 2999) - logits.Get()(0, 5), 1e-2);
    EXPECT_NEAR(found.loss(0, 1) / expected.loss(0, 1), 1, 1e-3);
    EXPECT_NEAR(found.log_sum_exp(0, 0) / expected.log_sum_exp(0, 0), 1, reference::Tolerance(dtype));
  }
}

TEST(CrossEntropy, NonFiniteLogitsGiveNonFiniteLossAndGradient) {
  const double infinity = std::numeric_limits<double>::infinity();
  for (const DType dtype : reference::SumTypes()) {
    for (const LossForm& form : {LossForm(), kForms[2]}) {
      for (const double bad : {std::nan(""), infinity}) {
        for (const int64_t at : {0, 5, 16, 18, 1999}) {
          SCOPED_TRACE(testing::Message() << Name(dtype) << " " << bad << " at " << at << ", cap " << form.soft_cap);
          Matrix z = Normal(2, 2000, 1);
          z(0, at) = bad;
          const Buffer logits(dtype, z);
          const CrossEntropyResult found =
              OnShards(logits, {5, 5}, {0, 17, 2000}, dtype, dtype, /*in_place=*/false, form);
          EXPECT_FALSE(std::isfinite(found.loss(0, 0)));
          EXPECT_FALSE(std::isfinite(found.grad(0, 1)));
          EXPECT_TRUE(std::isfinite(found.loss(0, 1)));
        }
      }
    }
  }
}

TEST(CrossEntropy, ALogitOfMinusInfinityIsAProbabilityOfZero) {
  for (const DType dtype : reference::SumTypes()) {
    Matrix z = Normal(2, 40, 1);
    z(0, 30) = -std::numeric_limits<double>::infinity();
    z(1, 5) = -std::numeric_limits<double>::infinity();
    const CrossEntropyResult found = OnShards(Buffer(dtype, z), {5, 5}, {0, 17, 40}, dtype, dtype);
    z(0, 30) = -1e9;
    EXPECT_EQ(found.loss(0, 0), OnShards(Buffer(dtype, z), {5, 5}, {0, 17, 40}, dtype, dtype).loss(0, 0));
    EXPECT_EQ(found.grad(0, 30), 0);
    EXPECT_FALSE(std::isfinite(found.loss(0, 1))) << "the target can't be learnt";
  }
}

TEST(CrossEntropy, BitsDoNotDependOnThreads) {
  const Matrix z = Normal(9, 5003, 1, 3);
  const auto targets = SomeTargets(9, 5003);
  reference::ExpectSameBitsForAnyThreads([&] {
    const Buffer logits(DType::kFloat32, z);
    const CrossEntropyResult found = OnShards(logits, targets, {0, 2500, 5003}, DType::kFloat32, DType::kFloat32);
    return Buffer(DType::kFloat64, found.loss).Bytes() + Buffer(DType::kFloat64, found.energy).Bytes() +
           Buffer(DType::kFloat64, found.grad).Bytes();
  });
}

TEST(CrossEntropy, RejectsTensorsThatDisagree) {
  Stream& stream = reference::TestStream();
  const Buffer logits(DType::kFloat32, 4, 9), narrow(DType::kBFloat16, 4, 9), targets(DType::kInt32, 1, 4),
      statistics(DType::kFloat32, 4, 4);
  const Buffer three(DType::kFloat32, 1, 3), four(DType::kFloat32, 1, 4);
  const absl::Status status =
      CrossEntropyStatistics({.logits = narrow, .targets = targets, .statistics = statistics}, stream);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("logits are bf16 [4, 9]; need fp32 or fp64"));
  EXPECT_FALSE(CrossEntropyStatistics({.logits = logits, .targets = four, .statistics = statistics}, stream).ok());
  EXPECT_FALSE(CrossEntropyStatistics({.logits = logits, .targets = targets, .statistics = three}, stream).ok());
  EXPECT_FALSE(
      CrossEntropyCombine({.gathered = statistics, .shards = 1, .loss = three, .log_sum_exp = three}, stream).ok());
  EXPECT_FALSE(
      CrossEntropyCombine({.gathered = statistics, .shards = 0, .loss = four, .log_sum_exp = four}, stream).ok());
  EXPECT_FALSE(
      CrossEntropyGradient(
          {.logits = logits, .targets = targets, .loss = four, .log_sum_exp = three, .grad_logits = logits}, stream)
          .ok());
  for (const double bad : {-1.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
    for (const LossForm& form : {LossForm{.soft_cap = bad}, LossForm{.z_loss = bad}}) {
      const absl::Status refused = CrossEntropyStatistics(
          {.logits = logits, .targets = targets, .form = form, .statistics = statistics}, stream);
      EXPECT_THAT(std::string(refused.message()), testing::HasSubstr("need finite numbers from 0 on"));
    }
    EXPECT_FALSE(CapLogits({.logits = logits, .soft_cap = bad}, stream).ok());
  }
  EXPECT_FALSE(CapLogits({.logits = logits, .soft_cap = 0}, stream).ok());
  EXPECT_FALSE(CapLogits({.logits = narrow, .soft_cap = 9}, stream).ok());
}

}  // namespace
}  // namespace isthmus
