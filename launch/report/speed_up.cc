#include "launch/report/speed_up.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <cmath>

namespace isthmus::report {
namespace {

double PositionOf(const SeriesPoint& point, Against against) {
  return against == Against::kTokens ? point.tokens : point.seconds;
}

// Returns the place where the line from a, above `loss`, to b, at or below it, meets it.
double Meeting(const SeriesPoint& a, const SeriesPoint& b, double loss, Against against) {
  const double share = (a.value - loss) / (a.value - b.value);
  return PositionOf(a, against) + share * (PositionOf(b, against) - PositionOf(a, against));
}

std::string FactorText(double factor) {
  return factor < 9.995 ? absl::StrFormat("%.2f", factor) : absl::StrFormat("%.1f", factor);
}

}  // namespace

SpeedUp ComputeSpeedUp(absl::Span<const SeriesPoint> reference, absl::Span<const SeriesPoint> run, Against against) {
  SpeedUp result;
  if (reference.size() < 2 || run.size() < 2) return result;
  const double loss = reference.back().value, end = PositionOf(reference.back(), against);
  const double start = PositionOf(run.front(), against);
  if (!(end > 0) || !(start >= 0) || !std::isfinite(PositionOf(run.back(), against))) return result;
  result.kind = SpeedUp::Kind::kNotReached;
  result.ends_above = run.back().value > loss;
  if (run.front().value <= loss) {
    if (start == 0) return {};
    result.kind = SpeedUp::Kind::kAtLeast;
    result.factor = result.cautious_factor = end / start;
    return result;
  }
  for (size_t i = 1; i < run.size(); ++i) {
    if (run[i - 1].value <= loss || run[i].value > loss) continue;
    const double factor = end / Meeting(run[i - 1], run[i], loss, against);
    if (!std::isfinite(factor)) return {};
    if (result.kind == SpeedUp::Kind::kNotReached) result.factor = factor;
    result.cautious_factor = factor;
    result.kind = SpeedUp::Kind::kFactor;
  }
  return result;
}

std::string SpeedUpText(const SpeedUp& speed_up) {
  switch (speed_up.kind) {
    case SpeedUp::Kind::kUnknown:
      return "–";
    case SpeedUp::Kind::kNotReached:
      return "not reached";
    case SpeedUp::Kind::kAtLeast:
      return absl::StrCat("≥ ", FactorText(speed_up.factor), "×");
    case SpeedUp::Kind::kFactor:
      break;
  }
  const std::string most = FactorText(speed_up.factor), least = FactorText(speed_up.cautious_factor);
  return absl::StrCat(least == most ? most : absl::StrCat(least, "–", most), "×",
                      speed_up.ends_above ? ", ends above" : "");
}

}  // namespace isthmus::report
