#include "launch/report/sections.h"

#include <absl/strings/str_cat.h>

#include <cmath>

#include "launch/report/html.h"

namespace isthmus::report {

PlotPoints DrawnPoints(const std::vector<SeriesPoint>& points, bool against_time) {
  PlotPoints drawn;
  std::vector<SeriesPoint> thinned = Thin(points, kMostDrawn);
  // A curve ends where the run does, and its legend says so.
  if (!points.empty()) thinned.back() = points.back();
  for (const SeriesPoint& point : thinned) {
    const double x = against_time ? point.seconds : point.tokens;
    if (std::isfinite(x)) drawn.emplace_back(x, point.value);
  }
  return drawn;
}

std::string SectionHtml(absl::string_view title, absl::string_view content) {
  if (content.empty()) return "";
  return absl::StrCat("<section>\n<h2>", Escape(title), "</h2>\n", content, "</section>\n");
}

std::string PlotGrid(absl::string_view plots) {
  return plots.empty() ? "" : absl::StrCat("<div class=\"plots\">\n", plots, "</div>\n");
}

std::string RunLabel(const Run& run, size_t index) {
  return absl::StrCat("<svg class=\"key\" width=\"28\" height=\"12\" aria-hidden=\"true\"><path class=\"line ",
                      StyleClasses(static_cast<int>(index)), "\" d=\"M0 6H28\"/></svg><bdi>", Escape(run.name),
                      "</bdi>");
}

}  // namespace isthmus::report
