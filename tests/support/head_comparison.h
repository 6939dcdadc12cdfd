// Compares the figures of two head decompositions, all of them.
#ifndef ISTHMUS_TESTS_SUPPORT_HEAD_COMPARISON_H_
#define ISTHMUS_TESTS_SUPPORT_HEAD_COMPARISON_H_

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/measure/head_figures.h"
#include "model/measure/layer_figures.h"

namespace isthmus::testing {

// Compares figures as `isthmus decompose` writes them. The result is empty when every field of `expected` is in `found`
// and equal to within `tolerance`, relative. Otherwise it says what differs, line by line. If an exact value may be
// zero, as the mean cosine of random directions, the tolerance is relative to one. If it is a part of the gradient's
// energy, it is relative to a thousandth of the whole. Counts must be equal. In a histogram, one in a hundred tokens
// may be on the other side of a bound unless the tolerance is below 1e-6.
std::string DifferentFigures(const nlohmann::json& found, const nlohmann::json& expected, double tolerance);

void ExpectSameFigures(const HeadFigures& found, const HeadFigures& expected, double tolerance);

// Compares the figures of layers. The tolerance of norms is relative, that of cosines absolute.
void ExpectSameLayers(const std::vector<LayerFigures>& found, const std::vector<LayerFigures>& expected,
                      double tolerance);

// Changes every number of a decomposition in turn, by some times the tolerance. Returns the names of those with which
// it still passes for the same.
std::string FaultsThatGoUnnoticed(const HeadFigures& figures, double tolerance);

}  // namespace isthmus::testing

#endif  // ISTHMUS_TESTS_SUPPORT_HEAD_COMPARISON_H_
