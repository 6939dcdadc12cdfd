// Singular values of the sampled tokens' gradient are exported as far down as they are known, and no further. A Gram
// matrix in fp32 gives smaller ones that are only its rounding.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/conditioned_head.h"

namespace isthmus::testing {
namespace {

TEST(HeadSpectrum, HoldsNoSingularValueThatIsRounding) {
  constexpr int64_t kCount = 61;
  constexpr double kCondition = 1e6;
  for (const bool fp32 : {true, false}) {
    const std::vector<double> found = SampledSingularValues(kCount, kCondition, fp32);
    for (size_t i = 0; i < found.size(); ++i) {
      const double expected = std::pow(kCondition, -static_cast<double>(i) / (kCount - 1));
      EXPECT_NEAR(found[i] / expected, 1, fp32 ? 0.1 : 1e-3) << i;
    }
    // In fp64 all of them are known; in fp32 those above sqrt(61 · 2^-24) = 1.9e-3.
    EXPECT_EQ(found.size(), fp32 ? 28u : 61u);
  }
}

// The values that a wide head reports may be older than its rank.
TEST(HeadSpectrum, ConditionIsThatOfTheRankThatTheSingularValuesWereFoundWith) {
  EXPECT_EQ(ConditionOf(4, {6, 3, 0, 0}, 2), 2);
  EXPECT_EQ(ConditionOf(2, {6, 3, 2, 1}, 4), 6);
  EXPECT_EQ(ConditionOf(4, {}, 0), 0) << "none are known";
}

}  // namespace
}  // namespace isthmus::testing
