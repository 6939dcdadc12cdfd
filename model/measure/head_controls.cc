#include "model/measure/head_controls.h"

#include <cmath>

namespace isthmus {
namespace {

// Draws whose figures differ by less, relative to their mean, are alike except for rounding.
constexpr double kAlike = 1e-12;

HeadControls::Spread SpreadOf(const std::vector<double>& values) {
  const auto count = static_cast<double>(values.size());
  HeadControls::Spread spread{0, 0};
  for (const double value : values) spread.mean += value / count;
  for (const double value : values) spread.deviation += (value - spread.mean) * (value - spread.mean);
  spread.deviation = std::sqrt(spread.deviation / (count - 1));
  return spread;
}

HeadControls::Spread Times(const HeadControls::Spread& spread, double factor) {
  return {spread.mean * factor, spread.deviation * factor};
}

}  // namespace

HeadControls::Control ControlOf(const std::vector<double>& shares, double trained, int64_t rank, int64_t vocabulary) {
  HeadControls::Control control;
  std::vector<double> lost;
  for (const double share : shares) {
    control.visible_cosines.push_back(std::sqrt(share));
    lost.push_back(std::sqrt(1 - share));
    if (control.visible_cosines.back() < trained) ++control.draws_below;
  }
  control.visible_cosine = SpreadOf(control.visible_cosines);
  control.lost_norm_ratio = SpreadOf(lost);
  const double isotropic = std::sqrt(static_cast<double>(rank) / static_cast<double>(vocabulary));
  control.alignment_gain = Times(control.visible_cosine, rank > 0 ? 1 / isotropic : 0);
  const auto [mean, deviation] = control.visible_cosine;
  if (deviation > kAlike * mean) control.deviations_above = (trained - mean) / deviation;
  return control;
}

}  // namespace isthmus
