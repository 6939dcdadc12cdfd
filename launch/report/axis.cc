#include "launch/report/axis.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace isthmus::report {
namespace {

struct Scale {
  double size;
  const char* name;
};

// Returns the largest scale of the table that `value` reaches; the first if it reaches none.
template <size_t kCount>
const Scale& ScaleOf(const Scale (&table)[kCount], double value) {
  const Scale* best = &table[0];
  for (const Scale& scale : table) {
    if (std::abs(value) >= scale.size) best = &scale;
  }
  return *best;
}

constexpr Scale kCounts[] = {{1, ""}, {1e3, "k"}, {1e6, "M"}, {1e9, "B"}, {1e12, "T"}};
constexpr Scale kTimes[] = {{1, "s"}, {60, "min"}, {3600, "h"}, {86400, "d"}};
// An axis is in minutes only when it shows a few of them.
constexpr Scale kTimeAxes[] = {{1, "seconds"}, {180, "minutes"}, {10800, "hours"}, {259200, "days"}};

double SizeOfTimeUnit(double longest) {
  const Scale& axis = ScaleOf(kTimeAxes, longest);
  return kTimes[&axis - kTimeAxes].size;
}

// Writes four significant digits, zeros among them, so that figures of one kind have one look.
std::string Digits(double value) {
  const double size = std::abs(value);
  if (size >= 1e6 || (size < 1e-4 && size > 0)) return absl::StrFormat("%.3e", value);
  if (value == std::floor(value)) return absl::StrFormat("%.0f", value);
  return absl::StrFormat("%.*f", std::max(0, 3 - static_cast<int>(std::floor(std::log10(size)))), value);
}

// Returns 1, 2 or 5 times a power of ten, at least `size`.
double RoundUp(double size) {
  const double power = std::pow(10, std::floor(std::log10(size)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= size * (1 - 1e-9)) return factor * power;
  }
  return 10 * power;
}

std::vector<double> LinearTicks(double low, double high, double unit, int count, double least_step = 0) {
  std::vector<double> ticks;
  // A few more are better than a few less.
  const double step = std::max(RoundUp(0.7 * (high - low) / unit / count) * unit, least_step);
  const double first = std::ceil(low / step - 1e-9);
  // A range far from zero and too narrow for a double's digits has none.
  for (int i = 0; i <= 2 * count; ++i) {
    const double tick = (first + i) * step;
    if (tick > high + 1e-9 * step) break;
    ticks.push_back(tick);
  }
  return ticks;
}

std::vector<double> LogarithmicTicks(double low, double high, int count) {
  const double decades = std::log10(high / low);
  if (decades < 0.8) return LinearTicks(low, high, 1, count);
  const double step = std::max(1.0, std::ceil(decades / count));
  for (const std::vector<double>& factors : {std::vector<double>{1}, std::vector<double>{1, 2, 5}}) {
    std::vector<double> ticks;
    for (double power = std::floor(std::log10(low)); power <= std::log10(high) + 1; power += step) {
      for (const double factor : factors) {
        const double tick = factor * std::pow(10, power);
        if (tick >= low * (1 - 1e-9) && tick <= high * (1 + 1e-9)) ticks.push_back(tick);
      }
    }
    if (ticks.size() >= 3) return ticks;
  }
  return LinearTicks(low, high, 1, count);
}

}  // namespace

std::string ValueText(double value, Unit unit) {
  if (!std::isfinite(value)) return "–";
  switch (unit) {
    case Unit::kCount: {
      const Scale& scale = ScaleOf(kCounts, value);
      return absl::StrCat(Digits(value / scale.size), *scale.name != 0 ? " " : "", scale.name);
    }
    case Unit::kSeconds: {
      if (std::abs(value) < 1 && value != 0) return absl::StrCat(Digits(1e3 * value), " ms");
      const Scale& scale = ScaleOf(kTimes, value);
      return absl::StrCat(Digits(value / scale.size), " ", scale.name);
    }
    case Unit::kPercent:
      return absl::StrCat(Digits(100 * value), " %");
    case Unit::kNumber:
      break;
  }
  return Digits(value);
}

std::string WholeText(double value) {
  const bool whole = std::abs(value) < 1e15 && value == std::floor(value);
  return whole ? absl::StrFormat("%.0f", value) : ValueText(value, Unit::kNumber);
}

Axis::Axis(double low, double high, Unit unit, bool logarithmic)
    : low_(std::min(low, high)), high_(std::max(low, high)), unit_(unit), logarithmic_(logarithmic && low_ > 0) {
  const double least = std::max(std::abs(low_), std::abs(high_)) * 1e-9;
  if (high_ - low_ > least) return;
  const double width = low_ == 0 ? 1 : 0.1 * std::abs(low_);
  high_ += width;
  if (low_ < 0 || (low_ > 0 && logarithmic_)) low_ -= width;
}

double Axis::Place(double value) const {
  if (logarithmic_) return value > 0 ? std::log(value / low_) / std::log(high_ / low_) : 0;
  return (value - low_) / (high_ - low_);
}

double Axis::ValueAt(double place) const {
  return logarithmic_ ? low_ * std::pow(high_ / low_, place) : low_ + place * (high_ - low_);
}

std::vector<double> Axis::Ticks(int count) const {
  if (logarithmic_) return LogarithmicTicks(low_, high_, count);
  const double unit = unit_ == Unit::kSeconds ? SizeOfTimeUnit(high_) : 1;
  const bool whole = unit_ == Unit::kCount && high_ - low_ >= 1;
  return LinearTicks(low_, high_, unit, count, whole ? 1 : 0);
}

std::string Axis::TickText(double tick, const std::vector<double>& ticks) const {
  double size = 1;
  std::string prefix;
  if (unit_ == Unit::kCount && !ticks.empty()) {
    const Scale& scale = ScaleOf(kCounts, logarithmic_ ? tick : ticks.back());
    size = scale.size;
    if (*scale.name != 0 && tick != 0) prefix = absl::StrCat(" ", scale.name);
  }
  if (unit_ == Unit::kSeconds) size = SizeOfTimeUnit(high_);
  if (unit_ == Unit::kPercent) size = 0.01;
  const double shown = tick / size;
  if (logarithmic_ || ticks.size() < 2) return absl::StrFormat("%.4g%s", shown, prefix);
  const double step = (ticks[1] - ticks[0]) / size;
  if (std::abs(shown) < 1e-9 * step) return "0";
  if (step < 1e-4 || std::abs(shown) >= 1e6) return absl::StrFormat("%.6g%s", shown, prefix);
  const int decimals = std::max(0, static_cast<int>(-std::floor(std::log10(step) + 1e-9)));
  return absl::StrFormat("%.*f%s", decimals, shown, prefix);
}

std::string Axis::UnitName() const {
  if (unit_ == Unit::kSeconds) return ScaleOf(kTimeAxes, high_).name;
  return unit_ == Unit::kPercent ? "%" : "";
}

}  // namespace isthmus::report
