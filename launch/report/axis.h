// The axes of a plot: range, ticks, and how values are written.
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

// Four significant digits: "3.519", "96.80 %", "2.601 M", "4.710 min"; whole numbers as they are; "–" for what is not
// finite.
std::string ValueText(double value, Unit unit);

// A whole number with all its digits: "1234567"; as ValueText where it is none or has more digits than a double.
std::string WholeText(double value);

class Axis {
 public:
  // From `low` to `high`, both plottable, in any order; logarithmic only where both are above 0. Ranges without width
  // are widened.
  Axis(double low, double high, Unit unit, bool logarithmic);

  double low() const { return low_; }
  double high() const { return high_; }
  Unit unit() const { return unit_; }
  bool logarithmic() const { return logarithmic_; }

  // 0 at low, 1 at high; beyond them outside of that.
  double Place(double value) const;
  // The value at a place: what Place takes back.
  double ValueAt(double place) const;
  // About `count` round values of the range, ascending; at least two where the range has them. Whole ones of counts.
  std::vector<double> Ticks(int count) const;
  // A tick without its unit, where the axis names it ("4", "96.5"); counts keep a prefix, the same for all ticks ("0.5
  // M").
  std::string TickText(double tick, const std::vector<double>& ticks) const;
  // "minutes"; empty where the values need no unit.
  std::string UnitName() const;

 private:
  double low_, high_;
  Unit unit_;
  bool logarithmic_;
};

}  // namespace isthmus::report

#endif  // ISTHMUS_LAUNCH_REPORT_AXIS_H_
