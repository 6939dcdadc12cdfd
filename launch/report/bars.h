// Draws stacked horizontal bars, one to a run, on a common scale.
#ifndef ISTHMUS_LAUNCH_REPORT_BARS_H_
#define ISTHMUS_LAUNCH_REPORT_BARS_H_

#include <string>
#include <vector>

namespace isthmus::report {

struct Bar {
  std::string name;           // text
  std::vector<double> parts;  // as many as Bars::parts, in seconds; NaN or 0: not there
};

struct Bars {
  std::string title;               // text
  std::string note;                // HTML; may be empty
  std::vector<std::string> parts;  // text
  std::vector<Bar> bars;
};

// Returns one <figure> with a legend and a table, or an empty string if no bar has a part.
std::string BarsHtml(const Bars& bars);

}  // namespace isthmus::report

#endif  // ISTHMUS_LAUNCH_REPORT_BARS_H_
