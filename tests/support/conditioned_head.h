// Heads of a chosen condition in which every column has large and small singular directions mixed, and so has A = G W.
// A column that is scaled down differs: its column of A scales with it and takes its rounding along.
#ifndef ISTHMUS_TESTS_SUPPORT_CONDITIONED_HEAD_H_
#define ISTHMUS_TESTS_SUPPORT_CONDITIONED_HEAD_H_

#include <cstdint>
#include <vector>

namespace isthmus::testing {

// Makes [vocabulary, width], row after row. W = Q₁ Σ Q₂ has singular values that fall evenly, by ratio, from 5 to
// 5/condition.
std::vector<double> DenselyConditionedHead(int64_t vocabulary, int64_t width, double condition);

// Makes a head for bf16, whose rounding would fill small singular values up. Every other row is a multiple of one
// vector of ±1, which bf16 holds exactly. The rest are smaller by `condition`, in all directions.
std::vector<double> TwoScaleHead(int64_t vocabulary, int64_t width, double condition);

// Returns HeadFigures::sampled_singular_values for sampled tokens whose G has the singular values 1 to 1/condition. The
// `count` values are evenly spread by ratio, and G Gᵀ was rounded to fp32, or not.
std::vector<double> SampledSingularValues(int64_t count, double condition, bool fp32);

// Returns the present condition of a head of the given rank. An earlier step found these singular values, some of them
// zero; the result is 0 if there were none.
double ConditionOf(int64_t rank, const std::vector<double>& earlier_values, int64_t earlier_rank);

}  // namespace isthmus::testing

#endif  // ISTHMUS_TESTS_SUPPORT_CONDITIONED_HEAD_H_
