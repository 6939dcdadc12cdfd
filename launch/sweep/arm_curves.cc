#include "launch/sweep/arm_curves.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "launch/report/run.h"

namespace isthmus::sweep {
namespace {

using report::SeriesPoint;

// Returns the point at `tokens`; null if the curve has none there.
const SeriesPoint* At(const std::vector<SeriesPoint>& curve, double tokens) {
  const auto found =
      std::find_if(curve.begin(), curve.end(), [&](const SeriesPoint& point) { return point.tokens == tokens; });
  return found == curve.end() ? nullptr : &*found;
}

std::vector<SeriesPoint> MeanOf(const std::vector<std::vector<SeriesPoint>>& seeds) {
  std::vector<SeriesPoint> mean;
  if (seeds.empty()) return mean;
  const auto count = static_cast<double>(seeds.size());
  for (const SeriesPoint& first : seeds[0]) {
    SeriesPoint point{
        .tokens = first.tokens, .low = first.value, .high = first.value, .last_tokens = first.last_tokens};
    const bool all = std::all_of(seeds.begin(), seeds.end(), [&](const auto& seed) {
      const SeriesPoint* found = At(seed, first.tokens);
      if (found == nullptr) return false;
      point.value += found->value / count;
      point.seconds += found->seconds / count;
      point.low = std::min(point.low, found->value);
      point.high = std::max(point.high, found->value);
      return true;
    });
    if (all) mean.push_back(point);
  }
  return mean;
}

}  // namespace

ArmCurves CurvesOf(const ArmResult& arm, const std::string& folder) {
  ArmCurves curves{.flops_per_token = std::numeric_limits<double>::quiet_NaN()};
  for (const SeedResult& seed : arm.survey.seeds) {
    if (!seed.result.has_value() || seed.result->end != RunResult::End::kFinished) continue;
    const auto run = report::ReadRun(folder + "/" + seed.run);
    if (!run.ok()) continue;
    curves.seeds.push_back(run->Figure("validation/loss").points());
    curves.flops_per_token = run->Fact("causal_flops_per_token");
  }
  curves.mean = MeanOf(curves.seeds);
  return curves;
}

ArmFactors FactorsOver(const ArmCurves& worst, const ArmCurves& arm) {
  // Operations are tokens of another price.
  const auto in_flops = [](const ArmCurves& curves) {
    std::vector<SeriesPoint> points = curves.mean;
    for (SeriesPoint& point : points) {
      point.tokens *= curves.flops_per_token;
      point.last_tokens *= curves.flops_per_token;
    }
    return points;
  };
  ArmFactors factors = {.tokens = ComputeSpeedUp(worst.mean, arm.mean, report::Against::kTokens),
                        .seconds = ComputeSpeedUp(worst.mean, arm.mean, report::Against::kSeconds)};
  if (std::isfinite(worst.flops_per_token) && std::isfinite(arm.flops_per_token)) {
    factors.flops = ComputeSpeedUp(in_flops(worst), in_flops(arm), report::Against::kTokens);
  } else {
    factors.flops.kind = report::SpeedUp::Kind::kUnknown;
  }
  return factors;
}

}  // namespace isthmus::sweep
