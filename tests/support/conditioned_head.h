// Heads of a chosen condition in which every column has large and small singular directions mixed, and so has A = G W:
// unlike a column that is scaled down, whose column of A scales with it and takes its rounding along.
#ifndef ISTHMUS_TESTS_SUPPORT_CONDITIONED_HEAD_H_
#define ISTHMUS_TESTS_SUPPORT_CONDITIONED_HEAD_H_

#include <cstdint>
#include <vector>

namespace isthmus::testing {

// [vocabulary, width], row after row. W = Q₁ Σ Q₂ whose singular values fall evenly, by ratio, from 5 to 5/condition.
std::vector<double> DenselyConditionedHead(int64_t vocabulary, int64_t width, double condition);

// For bf16, whose rounding would fill small singular values up: every other row is a multiple of one vector of ±1,
// which bf16 holds exactly, the rest are smaller by `condition`, in all directions.
std::vector<double> TwoScaleHead(int64_t vocabulary, int64_t width, double condition);

// HeadFigures::sampled_singular_values where sampled tokens' G has the singular values 1 to 1/condition, `count` of
// them evenly spread by ratio, and G Gᵀ was rounded to fp32, or not.
std::vector<double> SampledSingularValues(int64_t count, double condition, bool fp32);

// The condition of a head of the given rank now, of which these singular values, some of them zero, were found at an
// earlier step; 0 if none were.
double ConditionOf(int64_t rank, const std::vector<double>& earlier_values, int64_t earlier_rank);

}  // namespace isthmus::testing

#endif  // ISTHMUS_TESTS_SUPPORT_CONDITIONED_HEAD_H_
