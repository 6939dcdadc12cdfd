#include "launch/report/columns.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "launch/report/axis.h"
#include "launch/report/html.h"
#include "launch/report/plot.h"

namespace isthmus::report {
namespace {

double CountsSum(const std::vector<double>& counts) { return std::accumulate(counts.begin(), counts.end(), 0.0); }

// Returns the place of a value from the left, 0 to 1. Columns are alike in width, and logarithmic between their bounds.
// There is none beyond the first and the last bound.
std::optional<double> MarkPlace(double value, const std::vector<double>& bounds) {
  const auto above = std::lower_bound(bounds.begin(), bounds.end(), value);
  if (above == bounds.begin() || above == bounds.end()) return std::nullopt;
  const double low = *(above - 1), within = std::log(value / low) / std::log(*above / low);
  return (static_cast<double>(above - bounds.begin()) + within) / static_cast<double>(bounds.size() + 1);
}

// Names the column by its bounds: "up to 1", "2 to 4", "above 16384".
std::string RangeText(const std::vector<double>& bounds, size_t column) {
  if (column == 0) return absl::StrCat("up to ", WholeText(bounds.front()));
  if (column == bounds.size()) return absl::StrCat("above ", WholeText(bounds.back()));
  return absl::StrCat(WholeText(bounds[column - 1]), " to ", WholeText(bounds[column]));
}

std::string PercentText(double place) { return absl::StrFormat("%.2f%%", 100 * place); }

std::string ColumnGrid(const Columns& columns, double top) {
  std::string svg;
  const Axis axis(0, top, Unit::kPercent, false);
  const auto ticks = axis.Ticks(3);
  for (const double tick : ticks) {
    const std::string at = PercentText(1 - axis.Place(tick));
    absl::StrAppend(&svg, "<line class=\"grid\" x1=\"0\" x2=\"100%\" y1=\"", at, "\" y2=\"", at,
                    "\"/><text x=\"0\" y=\"", at, "\" dx=\"-6\" dy=\"4\" class=\"end\">", axis.TickText(tick, ticks),
                    "</text>\n");
  }
  // A column is narrower than a bound's name.
  constexpr size_t kStride = 3;
  const auto& bounds = columns.counts.bounds;
  for (size_t i = 0; i < bounds.size(); i += kStride) {
    const std::string at = PercentText(static_cast<double>(i + 1) / static_cast<double>(bounds.size() + 1));
    absl::StrAppend(&svg, "<line class=\"tick\" x1=\"", at, "\" x2=\"", at,
                    "\" y1=\"100%\" y2=\"100%\" transform=\"translate(0 4)\"/><text x=\"", at,
                    "\" y=\"100%\" dy=\"18\" class=\"mid\">", WholeText(bounds[i]), "</text>\n");
  }
  return svg;
}

std::string MarkSvg(const Columns& columns) {
  const std::optional<double> place = MarkPlace(columns.mark, columns.counts.bounds);
  if (!place.has_value()) return "";
  const std::string at = PercentText(*place);
  // The name stands beside the line's upper end, above the columns, on the side with more room.
  return absl::StrCat("<line class=\"mark\" x1=\"", at, "\" x2=\"", at, "\" y2=\"100%\"/><text x=\"", at,
                      "\" y=\"0\" dy=\"11\" ", *place > 0.5 ? "dx=\"-5\" class=\"end\">" : "dx=\"5\">",
                      Escape(columns.mark_name), "</text>\n");
}

}  // namespace

bool IsHistogram(const Counts& counts) {
  const auto& bounds = counts.bounds;
  for (size_t i = 0; i < bounds.size(); ++i) {
    if (!IsPlottable(bounds[i]) || !(bounds[i] > (i > 0 ? bounds[i - 1] : 0))) return false;
  }
  const bool plottable = std::all_of(counts.counts.begin(), counts.counts.end(),
                                     [](double count) { return IsPlottable(count) && count >= 0; });
  return !bounds.empty() && counts.counts.size() == bounds.size() + 1 && plottable && CountsSum(counts.counts) > 0;
}

double HighestShare(const Counts& counts) {
  return *std::max_element(counts.counts.begin(), counts.counts.end()) / CountsSum(counts.counts);
}

std::string ColumnsHtml(const Columns& columns) {
  const auto& counts = columns.counts.counts;
  constexpr double kRoomForMark = 1.2;
  const double total = CountsSum(counts), top = kRoomForMark * columns.highest_share,
               width = 1 / static_cast<double>(counts.size());
  std::string svg = absl::StrCat("<svg class=\"columns ", StyleClasses(columns.style), "\" role=\"img\" aria-label=\"",
                                 Escape(absl::StrCat(columns.title, ". The table below has the values.")), "\">\n",
                                 ColumnGrid(columns, top));
  Table table{.caption = columns.title, .header = {Escape(columns.x_title), "of the tokens"}};
  for (size_t i = 0; i < counts.size(); ++i) {
    const double share = counts[i] / total, height = share / top;
    const std::string range = RangeText(columns.counts.bounds, i), text = ValueText(share, Unit::kPercent);
    table.rows.push_back({range, text});
    if (share == 0) continue;
    absl::StrAppendFormat(&svg, "<rect x=\"%s\" y=\"%s\" width=\"%s\" height=\"%s\"><title>%s: %s</title></rect>\n",
                          PercentText(static_cast<double>(i) * width), PercentText(1 - height), PercentText(width),
                          PercentText(height), range, text);
  }
  absl::StrAppend(&svg, MarkSvg(columns), "</svg>");
  return absl::StrCat("<figure>\n<figcaption>", Escape(columns.title), "</figcaption>\n<p class=\"y-title\">",
                      "of the tokens, %</p>\n<div class=\"frame\">", svg, "</div>\n<p class=\"x-title\"><span></span>",
                      Escape(columns.x_title), "</p>\n",
                      columns.note.empty() ? "" : absl::StrCat("<p class=\"note\">", columns.note, "</p>\n"),
                      Details("Data", TableHtml(table)), "</figure>\n");
}

}  // namespace isthmus::report
