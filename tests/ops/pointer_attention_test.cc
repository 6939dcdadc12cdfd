#include "ops/pointer_attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tests/support/reference.h"

namespace isthmus {
namespace {

using reference::Buffer;
using reference::ExpectAgrees;
using reference::Matrix;
using reference::Normal;

struct PointerShape {
  int64_t sequences, sequence_length, width, padding, vocabulary;
};
// Blocks own 16 rows on a GPU and meet 32: lengths lie on both sides of both. The widths take all sizes of a head.
const std::vector<PointerShape> kPointerShapes = {{1, 1, 1, 0, 2},   {2, 7, 5, 3, 3},   {1, 16, 32, 0, 4},
                                                  {3, 33, 17, 1, 5}, {1, 70, 64, 0, 9}, {2, 40, 100, 2, 7},
                                                  {1, 35, 130, 0, 6}};

// The tokens of a case, all but a few of which have matches.
Matrix PointerTokens(int64_t count, int64_t vocabulary, uint32_t stream) {
  Matrix tokens = Normal(1, count, stream);
  for (double& token : tokens.values) token = static_cast<double>(std::llround(std::fabs(token) * 1e4) % vocabulary);
  return tokens;
}

struct PointerCase {
  PointerShape shape;
  double scale = 0.7;
  Matrix q, k, sink, ids, targets, grad_log_match, grad_log_sink;

  explicit PointerCase(const PointerShape& s)
      : shape(s),
        q(Normal(tokens(), s.width, 1, 1.3)),
        k(Normal(tokens(), s.width, 2)),
        sink(Matrix(1, 1, 0.4)),
        ids(PointerTokens(tokens(), s.vocabulary, 5)),
        targets(PointerTokens(tokens(), s.vocabulary, 6)),
        grad_log_match(Normal(1, tokens(), 3)),
        grad_log_sink(Normal(1, tokens(), 4)) {}
  int64_t tokens() const { return shape.sequences * shape.sequence_length; }
};

struct PointerResult {
  Matrix log_sum_exp, log_match, grad_q, grad_k, grad_sink;
};

// The definition, with the whole matrix of scores of a sequence.
PointerResult ExpectedPointer(const PointerCase& c) {
  const int64_t n_tokens = c.tokens(), length = c.shape.sequence_length;
  PointerResult r = {Matrix(1, n_tokens), Matrix(1, n_tokens), Matrix(n_tokens, c.shape.width),
                     Matrix(n_tokens, c.shape.width), Matrix(1, 1)};
  for (int64_t n = 0; n < n_tokens; ++n) {
    const int64_t first = n / length * length;
    const auto match = [&](int64_t j) { return c.ids(0, j) == c.targets(0, n); };
    std::vector<double> scores;
    double sum = std::exp(c.sink(0, 0)), matched = 0;
    for (int64_t j = first; j <= n; ++j) {
      double dot = 0;
      for (int64_t i = 0; i < c.shape.width; ++i) dot += c.q(n, i) * c.k(j, i);
      scores.push_back(c.scale * dot);
      sum += std::exp(scores.back());
      if (match(j)) matched += std::exp(scores.back());
    }
    r.log_sum_exp(0, n) = std::log(sum);
    r.log_match(0, n) = std::log(matched / sum);
    // The derivatives by the masses, from which those by the scores follow by the rule of the softmax.
    const double sink_mass = std::exp(c.sink(0, 0)) / sum;
    const double by_match = matched == 0 ? 0 : c.grad_log_match(0, n) * sum / matched;
    const double by_sink = c.grad_log_sink(0, n) / sink_mass;
    const double mean = by_match * matched / sum + by_sink * sink_mass;
    r.grad_sink(0, 0) += sink_mass * (by_sink - mean);
    for (int64_t j = first; j <= n; ++j) {
      const double mass = std::exp(scores[static_cast<size_t>(j - first)]) / sum;
      const double slope = c.scale * mass * ((match(j) ? by_match : 0) - mean);
      for (int64_t i = 0; i < c.shape.width; ++i) {
        r.grad_q(n, i) += slope * c.k(j, i);
        r.grad_k(j, i) += slope * c.q(n, i);
      }
    }
  }
  return r;
}

// The case on the device, rounded to a type.
struct PointerBuffers {
  Buffer q, k, sink, ids, targets;
  Buffer grad_log_match, grad_log_sink, log_sum_exp, log_match, grad_q, grad_k, grad_sink;
  const PointerCase& c;

  PointerBuffers(const PointerCase& the_case, DType type)
      : q(type, the_case.q, the_case.shape.padding),
        k(type, the_case.k, the_case.shape.padding),
        sink(type, the_case.sink),
        ids(DType::kInt32, the_case.ids),
        targets(DType::kInt32, the_case.targets),
        grad_log_match(AccumulationType(type), the_case.grad_log_match),
        grad_log_sink(AccumulationType(type), the_case.grad_log_sink),
        log_sum_exp(AccumulationType(type), 1, the_case.tokens()),
        log_match(AccumulationType(type), 1, the_case.tokens()),
        grad_q(type, the_case.tokens(), the_case.shape.width, the_case.shape.padding),
        grad_k(type, the_case.tokens(), the_case.shape.width, the_case.shape.padding),
        grad_sink(AccumulationType(type), 1, 1),
        c(the_case) {}

  absl::Status Forward() const {
    return PointerAttentionForward({.sequence_length = c.shape.sequence_length,
                                    .scale = c.scale,
                                    .q = q,
                                    .k = k,
                                    .sink = sink,
                                    .ids = ids,
                                    .targets = targets,
                                    .log_sum_exp = log_sum_exp,
                                    .log_match = log_match},
                                   reference::TestStream());
  }
  absl::Status Backward() const {
    return PointerAttentionBackward({.sequence_length = c.shape.sequence_length,
                                     .scale = c.scale,
                                     .q = q,
                                     .k = k,
                                     .sink = sink,
                                     .ids = ids,
                                     .targets = targets,
                                     .log_sum_exp = log_sum_exp,
                                     .log_match = log_match,
                                     .grad_log_match = grad_log_match,
                                     .grad_log_sink = grad_log_sink,
                                     .grad_q = grad_q,
                                     .grad_k = grad_k,
                                     .grad_sink = grad_sink},
                                    reference::TestStream());
  }
  // The case as the device sees it.
  PointerCase Rounded() const {
    PointerCase rounded = c;
    rounded.q = q.Get();
    rounded.k = k.Get();
    rounded.sink = sink.Get();
    rounded.grad_log_match = grad_log_match.Get();
    rounded.grad_log_sink = grad_log_sink.Get();
    return rounded;
  }
};

// Numbers without those of tokens that have no match, which must be -infinity in both.
Matrix WithMatches(const Matrix& numbers, const Matrix& expected) {
  Matrix finite = numbers;
  for (size_t i = 0; i < numbers.values.size(); ++i) {
    if (expected.values[i] != -std::numeric_limits<double>::infinity()) continue;
    EXPECT_EQ(numbers.values[i], expected.values[i]);
    finite.values[i] = 1;
  }
  return finite;
}

TEST(PointerAttention, MatchesTheDefinitionInEveryTypeAndShape) {
  for (const DType type : reference::FloatTypes()) {
    for (const PointerShape& shape : kPointerShapes) {
      SCOPED_TRACE(testing::Message() << Name(type) << " " << shape.sequences << "x" << shape.sequence_length << "x"
                                      << shape.width);
      const PointerCase c(shape);
      const PointerBuffers b(c, type);
      ASSERT_TRUE(b.Forward().ok());
      ASSERT_TRUE(b.Backward().ok());
      const PointerResult expected = ExpectedPointer(b.Rounded());
      // Sums are in fp32 or better, whatever the inputs' type.
      const double sums = reference::Tolerance(AccumulationType(type));
      ExpectAgrees("log_sum_exp", b.log_sum_exp.Get(), expected.log_sum_exp, sums);
      const Matrix finite = WithMatches(expected.log_match, expected.log_match);
      ExpectAgrees("log_match", WithMatches(b.log_match.Get(), expected.log_match), finite, 10 * sums);
      if (shape.sequence_length == 1) continue;  // the gradients of a few tokens may be all zeros
      ExpectAgrees("grad_q", b.grad_q, expected.grad_q, type);
      ExpectAgrees("grad_k", b.grad_k, expected.grad_k, type);
      EXPECT_NEAR(b.grad_sink.Get()(0, 0), expected.grad_sink(0, 0), 100 * sums);
      EXPECT_GT(std::fabs(expected.grad_sink(0, 0)), 1000 * sums) << "a missing gradient would go unnoticed";
    }
  }
}

// The loss Σ_n γ_n log_match[n] + μ_n log a_n0, without the tokens that have no match.
TEST(PointerAttention, GradientsMatchFiniteDifferences) {
  if (reference::OnGpu()) GTEST_SKIP() << "fp64 runs on the CPU";
  const PointerCase c({2, 9, 6, 0, 4});
  const auto loss = [&](const PointerCase& at) {
    const PointerBuffers b(at, DType::kFloat64);
    EXPECT_TRUE(b.Forward().ok());
    const Matrix log_sum_exp = b.log_sum_exp.Get(), log_match = b.log_match.Get();
    double sum = 0;
    for (int64_t n = 0; n < at.tokens(); ++n) {
      if (std::isfinite(log_match(0, n))) sum += at.grad_log_match(0, n) * log_match(0, n);
      sum += at.grad_log_sink(0, n) * (at.sink(0, 0) - log_sum_exp(0, n));
    }
    return sum;
  };
  const PointerBuffers b(c, DType::kFloat64);
  ASSERT_TRUE(b.Forward().ok());
  ASSERT_TRUE(b.Backward().ok());
  PointerCase moved = c;
  const auto differences = [&](Matrix PointerCase::*input) {
    return reference::FiniteDifferences(c.*input, [&](const Matrix& values) {
      moved = c;
      moved.*input = values;
      return loss(moved);
    });
  };
  ExpectAgrees("grad_q", b.grad_q.Get(), differences(&PointerCase::q), 1e-6);
  ExpectAgrees("grad_k", b.grad_k.Get(), differences(&PointerCase::k), 1e-6);
  ExpectAgrees("grad_sink", b.grad_sink.Get(), differences(&PointerCase::sink), 1e-6);
}

TEST(PointerAttention, AddsToTheGradientOfTheSink) {
  const PointerCase c({1, 12, 4, 0, 3});
  const PointerBuffers b(c, DType::kFloat32);
  ASSERT_TRUE(b.Forward().ok());
  ASSERT_TRUE(b.Backward().ok());
  const double once = b.grad_sink.Get()(0, 0);
  ASSERT_TRUE(b.Backward().ok());
  EXPECT_NEAR(b.grad_sink.Get()(0, 0), 2 * once, 1e-5 * std::fabs(once));
}

// A match of a tiny mass has a bounded gradient, though that by the mass itself overflows.
TEST(PointerAttention, StaysAccurateForScoresOfAnySize) {
  for (const DType type : reference::SumTypes()) {
    for (const double size : {1e-6, 1.0, 30.0, 40.0}) {
      SCOPED_TRACE(testing::Message() << Name(type) << " " << size);
      PointerCase c({1, 2, 1, 0, 2});
      c.scale = 1;
      c.q = Matrix(2, 1, 1);
      c.k.values = {-size, size};
      c.sink(0, 0) = -size / 2;
      c.ids.values = {0, 1};
      c.targets.values = {0, 0};
      const PointerBuffers b(c, type);
      ASSERT_TRUE(b.Forward().ok());
      ASSERT_TRUE(b.Backward().ok());
      const PointerResult expected = ExpectedPointer(b.Rounded());
      const double tolerance = 10 * reference::Tolerance(type);
      for (int64_t n = 0; n < 2; ++n) {
        EXPECT_NEAR(b.log_match.Get()(0, n), expected.log_match(0, n),
                    tolerance * std::max(1.0, std::fabs(expected.log_match(0, n))));
        EXPECT_NEAR(b.grad_q.Get()(n, 0), expected.grad_q(n, 0),
                    tolerance * std::max(1.0, size) * std::max(1.0, std::fabs(expected.grad_q(n, 0))));
      }
    }
  }
}

TEST(PointerAttention, NaNStaysNaN) {
  PointerCase c({1, 5, 3, 0, 2});
  c.k(2, 1) = std::nan("");
  const PointerBuffers b(c, DType::kFloat32);
  ASSERT_TRUE(b.Forward().ok());
  const Matrix found = b.log_sum_exp.Get();
  for (int64_t n = 0; n < 5; ++n) EXPECT_EQ(std::isnan(found(0, n)), n >= 2) << n;
}

TEST(PointerAttention, BitsDoNotDependOnThreads) {
  for (const DType type : {DType::kFloat32, DType::kBFloat16}) {
    const PointerCase c({2, 71, 24, 0, 11});
    reference::ExpectSameBitsForAnyThreads([&] {
      const PointerBuffers b(c, type);
      EXPECT_TRUE(b.Forward().ok());
      EXPECT_TRUE(b.Backward().ok());
      return b.log_sum_exp.Bytes() + b.log_match.Bytes() + b.grad_q.Bytes() + b.grad_k.Bytes() + b.grad_sink.Bytes();
    });
  }
}

TEST(PointerAttention, RejectsTensorsThatDisagree) {
  PointerCase c({2, 6, 4, 0, 3});
  const PointerBuffers b(c, DType::kFloat32);
  const Buffer narrow(DType::kFloat32, 12, 3), single(DType::kFloat32, 1, 1), half(DType::kBFloat16, 1, 1),
      few(DType::kInt32, 1, 2);
  PointerAttentionForwardArgs good = {.sequence_length = 6,
                                      .q = b.q,
                                      .k = b.k,
                                      .sink = b.sink,
                                      .ids = b.ids,
                                      .targets = b.targets,
                                      .log_sum_exp = b.log_sum_exp,
                                      .log_match = b.log_match};
  const auto code = [](const PointerAttentionForwardArgs& args) {
    return PointerAttentionForward(args, reference::TestStream()).code();
  };
  ASSERT_EQ(code(good), absl::StatusCode::kOk);
  PointerAttentionForwardArgs bad = good;
  bad.sequence_length = 5;
  EXPECT_EQ(code(bad), absl::StatusCode::kInvalidArgument);
  bad = good;
  bad.k = narrow;
  EXPECT_EQ(code(bad), absl::StatusCode::kInvalidArgument);
  bad = good;
  bad.sink = half;
  EXPECT_EQ(code(bad), absl::StatusCode::kInvalidArgument);
  bad = good;
  bad.targets = few;
  EXPECT_EQ(code(bad), absl::StatusCode::kInvalidArgument);
  bad = good;
  bad.log_match = single;
  EXPECT_EQ(code(bad), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace isthmus
