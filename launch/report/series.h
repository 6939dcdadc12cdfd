// Keeps one figure of a run against tokens and time, in memory that does not grow with the run. Once there are more
// records than points, a point stands for several records in a row.
#ifndef ISTHMUS_LAUNCH_REPORT_SERIES_H_
#define ISTHMUS_LAUNCH_REPORT_SERIES_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace isthmus::report {

// Returns whether a value may be drawn. It must be finite, and so far from the end of a double's range that sums and
// differences stay finite.
bool IsPlottable(double value);

struct SeriesPoint {
  double tokens = 0;   // mean over the point's records, as are seconds and value
  double seconds = 0;  // NaN where the records have none
  double value = 0;
  double low = 0, high = 0;  // of the records' values
  double last_tokens = 0;    // of the last of the records
  int64_t records = 1;
};

class Series {
 public:
  static constexpr size_t kMostPoints = 1024;

  // Values that are not plottable are counted and left out. tokens must not fall; CutFrom goes back.
  void Add(double tokens, double seconds, double value);
  // Forgets the points that reach to `tokens` or further: a run that was resumed from a checkpoint repeats them.
  void CutFrom(double tokens);

  const std::vector<SeriesPoint>& points() const { return points_; }
  bool empty() const { return points_.empty(); }
  int64_t not_finite() const { return not_finite_; }
  // Returns the value of the last point; NaN if there is none.
  double Last() const;

 private:
  std::vector<SeriesPoint> points_;
  int64_t records_per_point_ = 1;
  int64_t not_finite_ = 0;
};

// Returns the moving mean over the last `kSmoothingShare` of the series' records, but at least kLeastSmoothed (at the
// start: over all so far). It is placed at the mean tokens and seconds of the records that enter it. So the smoothed
// curve lies over the records and does not lag behind them. low and high are the mean.
inline constexpr double kSmoothingShare = 0.05;
inline constexpr int64_t kLeastSmoothed = 10;
std::vector<SeriesPoint> Smooth(const std::vector<SeriesPoint>& points);

// Returns the mean over the last of `parts` equal parts of the series' records, at least one record; NaN if there is
// none. Where a point stands for several records, all of it counts.
double MeanOfLastPart(const Series& series, int64_t parts);
// Returns the median of the points' values; of an even number the mean of both in the middle. NaN if there is none.
double MedianOf(const Series& series);

// Returns at most `most` points, made by joining neighbours.
std::vector<SeriesPoint> Thin(const std::vector<SeriesPoint>& points, size_t most);

}  // namespace isthmus::report

#endif  // ISTHMUS_LAUNCH_REPORT_SERIES_H_
