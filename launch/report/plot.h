// Draws line plots in SVG that stretch with the page while their text keeps its size. Each has a legend and a table of
// the same data. The looks are in report.css, the values under the pointer in report.js; without it a plot is complete.
#ifndef ISTHMUS_LAUNCH_REPORT_PLOT_H_
#define ISTHMUS_LAUNCH_REPORT_PLOT_H_

#include <string>
#include <utility>
#include <vector>

#include "launch/report/axis.h"

namespace isthmus::report {

// Styles 0 to 23 differ: each has another colour and dash pattern than the one before it, and no two have both the
// same. The colour-blind can tell the colours apart.
inline constexpr int kColours = 8, kDashes = 3, kStyles = kColours * kDashes;
inline constexpr int kGrey = -1;
// Returns classes of report.css: "c0 d0".
std::string StyleClasses(int style);

using PlotPoints = std::vector<std::pair<double, double>>;

struct PlotLine {
  enum class Kind {
    kLine,
    kBackground,  // faint, behind the others and cut off where they end: the records that a smoothed line stands for
    kMarkers,     // points joined by a thin line
    kSteps,       // level from each point to the next; the last point ends the last level
    kReference,   // a level or curve to compare with, dotted
    kPoints,      // points that nothing joins, each with its interval
  };
  std::string name;  // text
  int style = 0;     // or kGrey
  Kind kind = Kind::kLine;
  PlotPoints points;     // plottable
  PlotPoints intervals;  // of kPoints: the low and the high end of each y; none if they are not finite. Empty: no bars
};

struct Plot {
  std::string title, x_title, y_title;  // text; the axes add their units
  std::string note;                     // HTML below the plot; may be empty
  Unit x_unit = Unit::kCount, y_unit = Unit::kNumber;
  bool x_from_zero = true, y_from_zero = false;
  std::string first_x;      // what the table calls the lowest x; empty: its value
  bool last_values = true;  // in the legend: where x is progress, and the last value the latest
  // The axis is logarithmic if the values are positive and span more than this factor; 0: never.
  double x_logarithmic_above = 0, y_logarithmic_above = 0;
  std::vector<PlotLine> lines;
};

// Returns one <figure>, or an empty string if no line has a point.
std::string PlotHtml(const Plot& plot);

}  // namespace isthmus::report

#endif  // ISTHMUS_LAUNCH_REPORT_PLOT_H_
