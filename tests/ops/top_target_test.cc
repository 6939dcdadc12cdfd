#include "ops/top_target.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "tests/support/reference.h"

namespace isthmus {
namespace {

using reference::Buffer;
using reference::Matrix;
using reference::Normal;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kNone = -std::numeric_limits<double>::infinity();

// Runs both operators as P tensor ranks would. Shard i has the columns from bounds[i] to bounds[i + 1].
Matrix TopOnShards(const Buffer& logits, const Matrix& targets, const std::vector<int64_t>& bounds, DType dtype) {
  Stream& stream = reference::TestStream();
  const int64_t tokens = targets.columns, shards = std::ssize(bounds) - 1;
  const Buffer classes(DType::kInt32, targets), gathered(dtype, shards * tokens, 2, 3);
  const Buffer top(DType::kInt32, 1, tokens);
  for (int64_t i = 0; i < shards; ++i) {
    const int64_t begin = bounds[static_cast<size_t>(i)], end = bounds[static_cast<size_t>(i) + 1];
    EXPECT_TRUE(TargetRivals({.logits = logits.tensor().ColumnSlice(begin, end - begin),
                              .targets = classes,
                              .first_row = begin,
                              .rivals = gathered.tensor().RowSlice(i * tokens, tokens)},
                             stream)
                    .ok());
  }
  EXPECT_TRUE(TopTargets({.gathered = gathered, .shards = shards, .top = top}, stream).ok());
  EXPECT_TRUE(gathered.PaddingUntouched());
  return top.Get();
}

// Follows the definition: no other class is as probable.
Matrix TopByDefinition(const Matrix& logits, const Matrix& targets) {
  Matrix top(1, logits.rows);
  for (int64_t n = 0; n < logits.rows; ++n) {
    const auto target = static_cast<int64_t>(targets(0, n));
    bool alone = true;
    for (int64_t v = 0; v < logits.columns; ++v) alone = alone && (v == target || logits(n, v) < logits(n, target));
    top(0, n) = alone ? 1 : 0;
  }
  return top;
}

// Half of the targets are the largest logits, and the others are anywhere.
Matrix SomeTargets(const Matrix& logits) {
  Matrix targets(1, logits.rows);
  for (int64_t n = 0; n < logits.rows; ++n) {
    const auto row = logits.values.begin() + n * logits.columns;
    const auto largest = std::max_element(row, row + logits.columns) - row;
    targets(0, n) = static_cast<double>(n % 2 == 0 ? largest : (n * 7919) % logits.columns);
  }
  return targets;
}

TEST(TopTarget, IsThatOfTheDefinitionOnUnevenShards) {
  for (const DType dtype : reference::SumTypes()) {
    for (const std::vector<int64_t>& bounds :
         std::vector<std::vector<int64_t>>{{0, 1}, {0, 300}, {0, 1, 67}, {0, 5, 41, 42, 131}, {0, 600, 1301}}) {
      SCOPED_TRACE(bounds.back());
      const Buffer logits(dtype, Normal(33, bounds.back(), 1), 5);
      const Matrix targets = SomeTargets(logits.Get()), expected = TopByDefinition(logits.Get(), targets);
      const Matrix found = TopOnShards(logits, targets, bounds, dtype);
      EXPECT_EQ(found.values, expected.values);
      const double right = reference::Dot(expected, Matrix(1, 33, 1));
      EXPECT_GE(right, 17);
      if (bounds.back() > 1) {
        EXPECT_LT(right, 33);
      }
      // The largest of all, whoever owns it, is what counts: with another target each token is wrong.
      if (bounds.back() < 3) continue;
      Matrix others = targets;
      for (double& target : others.values) target = std::fmod(target + 1, static_cast<double>(bounds.back()));
      EXPECT_NE(TopOnShards(logits, others, bounds, dtype).values, expected.values);
    }
  }
}

TEST(TopTarget, ATieIsNoTop) {
  const std::vector<int64_t> bounds = {0, 3, 8};
  for (const DType dtype : reference::SumTypes()) {
    // All logits are alike, two are within a shard, two in different shards; and then the target alone.
    Matrix z(5, 8, 0.5);
    const Matrix targets = [] {
      Matrix t(1, 5);
      t.values = {4, 4, 4, 4, 1};
      return t;
    }();
    z(1, 4) = z(1, 6) = 2;
    z(2, 4) = z(2, 0) = 2;
    z(3, 4) = 2;
    z(4, 1) = 0.5000001;
    const Matrix found = TopOnShards(Buffer(dtype, z), targets, bounds, dtype);
    EXPECT_EQ(found.values, std::vector<double>({0, 0, 0, 1, 1}));
  }
}

TEST(TopTarget, NotANumberIsNoTopAndNothingIsMinusInfinity) {
  const std::vector<int64_t> bounds = {0, 20, 41};
  for (const DType dtype : reference::SumTypes()) {
    for (const int64_t at : {0, 7, 19, 20, 33, 40}) {
      Matrix z = Normal(4, 41, 2), targets(1, 4, 12);
      for (int64_t n = 0; n < 4; ++n) z(n, 12) = 9;
      z(0, at) = kNan;                                                  // beside a target that would be right
      z(1, 12) = kNan;                                                  // the target itself
      z(2, 12) = kNone;                                                 // the target has no probability
      for (int64_t v = 0; v < 41; ++v) z(3, v) = v == 12 ? -3 : kNone;  // no other class has any
      EXPECT_EQ(TopOnShards(Buffer(dtype, z), targets, bounds, dtype).values, std::vector<double>({0, 0, 0, 1})) << at;
    }
  }
}

TEST(TopTarget, RivalsAreTheLargestOthers) {
  Stream& stream = reference::TestStream();
  const Buffer logits(DType::kFloat32, Normal(7, 130, 3));
  Matrix targets(1, 7);
  targets.values = {0, 129, 64, 65, 200, -5, 1};
  const Buffer classes(DType::kInt32, targets), rivals(DType::kFloat32, 7, 2);
  ASSERT_TRUE(TargetRivals({.logits = logits, .targets = classes, .rivals = rivals}, stream).ok());
  const Matrix z = logits.Get(), found = rivals.Get();
  for (int64_t n = 0; n < 7; ++n) {
    const auto target = static_cast<int64_t>(targets(0, n));
    double largest = kNone;
    for (int64_t v = 0; v < 130; ++v) largest = v == target ? largest : std::max(largest, z(n, v));
    EXPECT_EQ(found(n, 1), largest);
    EXPECT_EQ(found(n, 0), target >= 0 && target < 130 ? z(n, target) : kNone);
  }
  reference::ExpectSameBitsForAnyThreads([&] {
    EXPECT_TRUE(TargetRivals({.logits = logits, .targets = classes, .rivals = rivals}, stream).ok());
    return rivals.Bytes();
  });
}

TEST(TopTarget, WrongShapesAreErrors) {
  Stream& stream = reference::TestStream();
  const Buffer logits(DType::kFloat32, 4, 9), targets(DType::kInt32, 1, 4), rivals(DType::kFloat32, 4, 2),
      top(DType::kInt32, 1, 4), narrow(DType::kBFloat16, 4, 9), line(DType::kFloat32, 1, 4);
  EXPECT_TRUE(TargetRivals({.logits = logits, .targets = targets, .rivals = rivals}, stream).ok());
  EXPECT_FALSE(TargetRivals({.logits = narrow, .targets = targets, .rivals = rivals}, stream).ok());
  EXPECT_FALSE(TargetRivals({.logits = logits, .targets = line, .rivals = rivals}, stream).ok());
  EXPECT_FALSE(TargetRivals({.logits = logits, .targets = targets, .rivals = logits}, stream).ok());
  EXPECT_TRUE(TopTargets({.gathered = rivals, .top = top}, stream).ok());
  EXPECT_FALSE(TopTargets({.gathered = rivals, .shards = 2, .top = top}, stream).ok());
  EXPECT_FALSE(TopTargets({.gathered = rivals, .top = line}, stream).ok());
}

}  // namespace
}  // namespace isthmus
