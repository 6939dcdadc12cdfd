// Draws a small histogram: upright columns side by side, one for each range between two bounds.
#ifndef ISTHMUS_LAUNCH_REPORT_COLUMNS_H_
#define ISTHMUS_LAUNCH_REPORT_COLUMNS_H_

#include <string>

#include "launch/report/run.h"

namespace isthmus::report {

struct Columns {
  std::string title, x_title;  // text
  std::string note;            // HTML; may be empty
  int style = 0;
  Counts counts;
  double highest_share = 0;  // where the axis ends; the plots of several runs have it in common
  // A value that is marked with an upright line, and the line's name; none if it is not within the bounds.
  double mark = 0;
  std::string mark_name;
};

// Returns true if bounds are ascending and above 0, and counts are plottable, at least one above 0.
bool IsHistogram(const Counts& counts);
// Returns the highest of the counts as a share of all.
double HighestShare(const Counts& counts);

// Returns one <figure> with a table; `counts` must be a histogram.
std::string ColumnsHtml(const Columns& columns);

}  // namespace isthmus::report

#endif  // ISTHMUS_LAUNCH_REPORT_COLUMNS_H_
