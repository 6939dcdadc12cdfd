// Tests the factor of the head's Gram matrix and its inverse by their definitions.
#include "model/algebra/gram_factor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/reference.h"

namespace isthmus {
namespace {

using reference::Agrees;
using reference::Buffer;
using reference::Normal;
using reference::Product;
using reference::Transpose;

// Returns V diag Vᵀ with the eigenvalues 1, ..., 1/condition. V, made of two mirrors, is orthogonal.
reference::Matrix SymmetricOf(int64_t n, double condition) {
  reference::Matrix basis(n, n);
  for (int64_t i = 0; i < n; ++i) basis(i, i) = 1;
  for (uint32_t mirror = 1; mirror <= 2; ++mirror) {
    const reference::Matrix normal = Normal(n, 1, mirror);
    double square = 0;
    for (const double value : normal.values) square += value * value;
    reference::Matrix reflection(n, n);
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) reflection(i, j) = (i == j ? 1 : 0) - 2 * normal(i, 0) * normal(j, 0) / square;
    }
    basis = Product(basis, reflection);
  }
  reference::Matrix scaled = basis;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      scaled(i, j) *= std::pow(condition, -static_cast<double>(j) / static_cast<double>(std::max<int64_t>(n - 1, 1)));
    }
  }
  return Product(scaled, Transpose(basis));
}

reference::Matrix Identity(int64_t n) {
  reference::Matrix identity(n, n);
  for (int64_t i = 0; i < n; ++i) identity(i, i) = 1;
  return identity;
}

struct Factored {
  bool definite = false;
  reference::Matrix r{0, 0}, inverse{0, 0};
  double reciprocal_condition = 0;
};
Factored Factor(const reference::Matrix& m) {
  Stream& stream = reference::TestStream();
  const Buffer gram(DType::kFloat64, m), r(DType::kFloat64, m), inverse(DType::kFloat64, Normal(m.rows, m.rows, 7));
  const Buffer workspace(DType::kFloat64, kGramFactorRows, m.rows);
  Factored factored;
  const auto definite = FactorGram({.gram = r, .inverse = inverse, .workspace = workspace}, stream);
  EXPECT_TRUE(definite.ok());
  factored.definite = *definite;
  factored.r = r.Get();
  factored.inverse = inverse.Get();
  if (*definite) factored.reciprocal_condition = *ReciprocalCondition(gram, inverse, workspace, stream);
  return factored;
}

// There are more columns than the host factors at once, fewer, and as many.
constexpr int64_t kSizes[] = {1, 5, 64, 65, 200};

TEST(GramFactor, IsUpperTriangularAndItsSquareIsTheMatrix) {
  for (const int64_t n : kSizes) {
    for (const double condition : {10.0, 1e10}) {
      SCOPED_TRACE(::testing::Message() << n << ", condition " << condition);
      const reference::Matrix m = SymmetricOf(n, condition);
      const Factored factored = Factor(m);
      ASSERT_TRUE(factored.definite);
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t j = 0; j < i; ++j) {
          ASSERT_EQ(factored.r(i, j), 0);
          ASSERT_EQ(factored.inverse(i, j), 0);
        }
      }
      EXPECT_TRUE(Agrees(Product(Transpose(factored.r), factored.r), m, 1e-13));
      EXPECT_TRUE(Agrees(Product(factored.inverse, factored.r), Identity(n), condition > 1e6 ? 1e-9 : 1e-12));
    }
  }
}

TEST(GramFactor, KnowsTheCondition) {
  for (const int64_t n : kSizes) {
    if (n == 1) continue;
    for (const double condition : {1.0, 1e4, 1e12}) {
      SCOPED_TRACE(::testing::Message() << n << ", condition " << condition);
      const double found = Factor(SymmetricOf(n, condition)).reciprocal_condition * condition;
      EXPECT_GE(found, 0.99);
      EXPECT_LE(found, 3);
    }
  }
}

// An estimate that begins with all columns alike would not see that two of them are almost the same.
TEST(GramFactor, KnowsTheConditionOfTwinColumns) {
  reference::Matrix m = Identity(16);
  m(0, 3) = m(3, 0) = 1 - 1e-10;
  const Factored factored = Factor(m);
  ASSERT_TRUE(factored.definite);
  EXPECT_LT(factored.reciprocal_condition, 1e-9);
}

TEST(GramFactor, RefusesWhatIsNotDefinite) {
  for (const int64_t n : kSizes) {
    for (const int64_t at : {int64_t{0}, n / 2, n - 1}) {
      reference::Matrix m = SymmetricOf(n, 10);
      m(at, at) = -1;
      EXPECT_FALSE(Factor(m).definite) << n << ", " << at;
      m(at, at) = std::numeric_limits<double>::quiet_NaN();
      EXPECT_FALSE(Factor(m).definite) << n << ", " << at;
    }
  }
}

}  // namespace
}  // namespace isthmus
