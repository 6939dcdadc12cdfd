// The axes of a plot have a range, ticks, and a way to write values.
#ifndef ISTHMUS_LAUNCH_REPORT_AXIS_H_
#define ISTHMUS_LAUNCH_REPORT_AXIS_H_

#include <string>
#include <vector>

namespace isthmus::report {

enum class Unit {
  kNumber,   // 3.52
  kCount,    // 1.5 M
  kSeconds,  // in seconds, minutes, hours or days, as the range asks for
  kPercent,  // of a ratio
};

// Writes four significant digits: "3.519", "96.80 %", "2.601 M", "4.710 min". Whole numbers stay as they are; a value
// that is not finite becomes "–".
std::string ValueText(double value, Unit unit);

// Writes a whole number with all its digits: "1234567". Works as ValueText if it is none or has more digits than a
// double.
std::string WholeText(double value);

class Axis {
 public:
  // The axis goes from `low` to `high`, both plottable, in any order. It is logarithmic only if both are above 0.
  // Ranges without width are widened.
  Axis(double low, double high, Unit unit, bool logarithmic);

  double low() const { return low_; }
  double high() const { return high_; }
  Unit unit() const { return unit_; }
  bool logarithmic() const { return logarithmic_; }

  // Returns 0 at low, 1 at high; outside the range the place is outside [0, 1].
  double Place(double value) const;
  // Returns the value at a place: the inverse of Place.
  double ValueAt(double place) const;
  // Returns about `count` round values of the range, ascending; at least two if the range has them. Ticks of counts are
  // whole.
  std::vector<double> Ticks(int count) const;
  // Writes a tick without its unit if the axis names it ("4", "96.5"). Counts keep a prefix, the same for all ticks
  // ("0.5 M").
  std::string TickText(double tick, const std::vector<double>& ticks) const;
  // Returns "minutes"; empty if the values need no unit.
  std::string UnitName() const;

 private:
  double low_, high_;
  Unit unit_;
  bool logarithmic_;
};

}  // namespace isthmus::report

#endif  // ISTHMUS_LAUNCH_REPORT_AXIS_H_
