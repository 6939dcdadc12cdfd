#include "launch/report/series.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace isthmus::report {
namespace {

SeriesPoint Join(const SeriesPoint& a, const SeriesPoint& b) {
  const auto na = static_cast<double>(a.records), nb = static_cast<double>(b.records);
  const auto mean = [&](double x, double y) { return (na * x + nb * y) / (na + nb); };
  return {.tokens = mean(a.tokens, b.tokens),
          .seconds = mean(a.seconds, b.seconds),
          .value = mean(a.value, b.value),
          .low = std::min(a.low, b.low),
          .high = std::max(a.high, b.high),
          .last_tokens = b.last_tokens,
          .records = a.records + b.records};
}

int64_t RecordsOf(const std::vector<SeriesPoint>& points) {
  int64_t records = 0;
  for (const SeriesPoint& point : points) records += point.records;
  return records;
}

void JoinPairs(std::vector<SeriesPoint>& points) {
  const size_t count = (points.size() + 1) / 2;
  for (size_t i = 0; i < count; ++i) {
    points[i] = 2 * i + 1 < points.size() ? Join(points[2 * i], points[2 * i + 1]) : points[2 * i];
  }
  points.resize(count);
}

}  // namespace

bool IsPlottable(double value) { return std::abs(value) <= 1e100; }

void Series::Add(double tokens, double seconds, double value) {
  if (!IsPlottable(value)) {
    ++not_finite_;
    return;
  }
  const SeriesPoint point{.tokens = tokens,
                          .seconds = IsPlottable(seconds) ? seconds : std::numeric_limits<double>::quiet_NaN(),
                          .value = value,
                          .low = value,
                          .high = value,
                          .last_tokens = tokens};
  if (!points_.empty() && points_.back().records < records_per_point_) {
    points_.back() = Join(points_.back(), point);
    return;
  }
  if (points_.size() == kMostPoints) {
    JoinPairs(points_);
    records_per_point_ *= 2;
  }
  points_.push_back(point);
}

void Series::CutFrom(double tokens) {
  while (!points_.empty() && points_.back().last_tokens >= tokens) points_.pop_back();
}

double Series::Last() const {
  return points_.empty() ? std::numeric_limits<double>::quiet_NaN() : points_.back().value;
}

std::vector<SeriesPoint> Smooth(const std::vector<SeriesPoint>& points) {
  const auto records = static_cast<double>(RecordsOf(points));
  const int64_t window = std::max(kLeastSmoothed, static_cast<int64_t>(std::ceil(kSmoothingShare * records)));
  std::vector<SeriesPoint> smoothed;
  smoothed.reserve(points.size());
  for (size_t i = 0; i < points.size(); ++i) {
    SeriesPoint mean = points[i];
    for (size_t k = i; k > 0 && mean.records < window; --k) mean = Join(points[k - 1], mean);
    mean.last_tokens = points[i].last_tokens;
    mean.low = mean.high = mean.value;
    smoothed.push_back(mean);
  }
  return smoothed;
}

double MeanOfLastPart(const Series& series, int64_t parts) {
  const auto& points = series.points();
  if (points.empty()) return std::numeric_limits<double>::quiet_NaN();
  const int64_t wanted = (RecordsOf(points) + parts - 1) / parts;
  SeriesPoint mean = points.back();
  for (size_t k = points.size() - 1; k > 0 && mean.records < wanted; --k) mean = Join(points[k - 1], mean);
  return mean.value;
}

double MedianOf(const Series& series) {
  std::vector<double> values;
  for (const SeriesPoint& point : series.points()) values.push_back(point.value);
  if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
  std::sort(values.begin(), values.end());
  return (values[(values.size() - 1) / 2] + values[values.size() / 2]) / 2;
}

std::vector<SeriesPoint> Thin(const std::vector<SeriesPoint>& points, size_t most) {
  std::vector<SeriesPoint> thinned = points;
  while (thinned.size() > std::max<size_t>(most, 1)) JoinPairs(thinned);
  return thinned;
}

}  // namespace isthmus::report
