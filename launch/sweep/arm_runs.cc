#include "launch/sweep/arm_runs.h"

#include <absl/strings/str_cat.h>
#include <absl/types/span.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "launch/report/run.h"

namespace isthmus::sweep {
namespace {

using report::SeriesPoint;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// Returns the point at `tokens`; null if the curve has none there.
const SeriesPoint* At(const std::vector<SeriesPoint>& curve, double tokens) {
  const auto found =
      std::find_if(curve.begin(), curve.end(), [&](const SeriesPoint& point) { return point.tokens == tokens; });
  return found == curve.end() ? nullptr : &*found;
}

std::string MachineOf(const report::Run& run) {
  const double threads = run.Fact("threads_per_rank"), ranks = run.Fact("tensor_ranks") * run.Fact("data_ranks");
  return absl::StrCat(run.device, run.processor.empty() ? "" : absl::StrCat(" (", run.processor, ")"),
                      ranks > 1 ? absl::StrCat(", ", ranks, " ranks") : "", ", ", threads,
                      threads == 1 ? " thread" : " threads");
}

}  // namespace

std::vector<SeriesPoint> MeanCurve(const std::vector<std::vector<SeriesPoint>>& seeds) {
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

ArmRuns ReadArmRuns(const proto::SweepConfig& config, const ArmSurvey& arm) {
  ArmRuns runs{.flops_per_token = kNaN};
  runs.figures.resize(static_cast<size_t>(config.figures_size()));
  for (FigureRuns& figure : runs.figures) figure.last.assign(arm.seeds.size(), kNaN);
  std::vector<std::string> keys;
  for (const proto::SweepFigure& figure : config.figures()) keys.push_back(figure.key());
  for (size_t seed = 0; seed < arm.seeds.size(); ++seed) {
    const std::optional<RunResult>& result = arm.seeds[seed].result;
    if (!result.has_value() || result->end != RunResult::End::kFinished) continue;
    const auto run = report::ReadRun(config.folder() + "/" + arm.seeds[seed].run, keys);
    if (!run.ok()) continue;
    runs.losses.push_back(run->Figure("validation/loss").points());
    runs.flops_per_token = run->Fact("causal_flops_per_token");
    if (!run->commit.empty()) runs.commits.insert(run->commit);
    if (!run->device.empty()) runs.machines.insert(MachineOf(*run));
    if (!run->data.empty()) runs.data.insert(run->data);
    for (size_t i = 0; i < runs.figures.size(); ++i) {
      const report::Series& series = run->Figure(keys[i]);
      if (series.empty()) continue;
      runs.figures[i].last[seed] = report::MeanOfLastPart(series, 10);
      runs.figures[i].curves.push_back(series.points());
    }
  }
  runs.mean = MeanCurve(runs.losses);
  return runs;
}

std::vector<SeriesPoint> AgainstFlops(const std::vector<SeriesPoint>& curve, double flops_per_token) {
  std::vector<SeriesPoint> points;
  if (!std::isfinite(flops_per_token)) return points;
  for (SeriesPoint point : curve) {
    point.tokens *= flops_per_token;
    point.last_tokens *= flops_per_token;
    points.push_back(point);
  }
  return points;
}

ArmFactors FactorsOver(const ArmRuns& worst, const ArmRuns& arm) {
  ArmFactors factors = {.tokens = ComputeSpeedUp(worst.mean, arm.mean, report::Against::kTokens),
                        .seconds = ComputeSpeedUp(worst.mean, arm.mean, report::Against::kSeconds)};
  if (std::isfinite(worst.flops_per_token) && std::isfinite(arm.flops_per_token)) {
    // Operations are tokens of another price.
    factors.flops = ComputeSpeedUp(AgainstFlops(worst.mean, worst.flops_per_token),
                                   AgainstFlops(arm.mean, arm.flops_per_token), report::Against::kTokens);
  } else {
    factors.flops.kind = report::SpeedUp::Kind::kUnknown;
  }
  return factors;
}

std::vector<std::pair<double, double>> FactorsByLoss(const ArmRuns& worst, const ArmRuns& arm) {
  std::vector<std::pair<double, double>> factors;
  for (size_t count = 2; count <= worst.mean.size(); ++count) {
    const auto part = absl::MakeConstSpan(worst.mean).subspan(0, count);
    const report::SpeedUp factor = ComputeSpeedUp(part, arm.mean, report::Against::kTokens);
    if (factor.kind == report::SpeedUp::Kind::kFactor) factors.emplace_back(part.back().value, factor.factor);
  }
  std::sort(factors.begin(), factors.end());
  return factors;
}

}  // namespace isthmus::sweep
