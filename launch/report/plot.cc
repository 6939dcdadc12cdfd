#include "launch/report/plot.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <set>

#include "launch/report/html.h"

namespace isthmus::report {
namespace {

using Kind = PlotLine::Kind;

// These are units of the curves' coordinates. A curve is as exact as the readout that report.js takes from it.
constexpr int kUnits = 10000;

struct Range {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  void Add(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
};

bool IsWide(const Range& range, double factor) {
  return factor > 0 && range.low > 0 && range.high > factor * range.low;
}

bool HasInterval(double low, double high) { return std::isfinite(low) && std::isfinite(high); }

struct Axes {
  Axis x, y;
};

std::optional<Axes> MakeAxes(const Plot& plot) {
  Range x, y;
  for (const PlotLine& line : plot.lines) {
    // Single records may leave the plot: there would be no room for the smoothed line.
    if (line.kind == Kind::kBackground) continue;
    for (const auto& [px, py] : line.points) {
      x.Add(px);
      y.Add(py);
    }
    for (const auto& [low, high] : line.intervals) {
      if (!HasInterval(low, high)) continue;
      y.Add(low);
      y.Add(high);
    }
  }
  if (x.low > x.high) return std::nullopt;
  if (plot.x_from_zero) x.Add(0);
  if (plot.y_from_zero) y.Add(0);
  const Axis tight(y.low, y.high, plot.y_unit, IsWide(y, plot.y_logarithmic_above));
  // This leaves a little room above and below.
  constexpr double kRoom = 0.05;
  const double below = plot.y_from_zero && y.low == 0 ? 0 : -kRoom;
  const Axis y_axis(tight.ValueAt(below), tight.ValueAt(1 + kRoom), plot.y_unit, tight.logarithmic());
  return Axes{.x = Axis(x.low, x.high, plot.x_unit, IsWide(x, plot.x_logarithmic_above)), .y = y_axis};
}

std::string Percent(double place) { return absl::StrFormat("%.2f%%", 100 * place); }

int Units(double place) { return static_cast<int>(std::lround(std::clamp(place, -1.0, 2.0) * kUnits)); }

// Returns a path like "M0 10L5 20…".
std::string Path(const PlotLine& line, const Axes& axes) {
  std::string path;
  int previous_y = 0;
  for (const auto& [x, y] : line.points) {
    const int px = Units(axes.x.Place(x)), py = Units(1 - axes.y.Place(y));
    if (line.kind == Kind::kSteps && !path.empty()) absl::StrAppend(&path, "L", px, " ", previous_y);
    absl::StrAppend(&path, path.empty() ? "M" : "L", px, " ", py);
    previous_y = py;
  }
  return path;
}

// Returns a path with an upright stroke for each interval.
std::string IntervalStrokes(const PlotLine& line, const Axes& axes) {
  std::string path;
  for (size_t i = 0; i < std::min(line.points.size(), line.intervals.size()); ++i) {
    const auto& [low, high] = line.intervals[i];
    if (!HasInterval(low, high)) continue;
    const int px = Units(axes.x.Place(line.points[i].first));
    absl::StrAppend(&path, "M", px, " ", Units(1 - axes.y.Place(low)), "V", Units(1 - axes.y.Place(high)));
  }
  return path;
}

bool HasDots(const PlotLine& line) { return line.kind == Kind::kMarkers || line.kind == Kind::kPoints; }

std::string Grid(const Axes& axes) {
  std::string svg;
  const auto x_ticks = axes.x.Ticks(5), y_ticks = axes.y.Ticks(5);
  for (const double tick : y_ticks) {
    const std::string at = Percent(1 - axes.y.Place(tick));
    absl::StrAppend(&svg, "<line class=\"grid\" x1=\"0\" x2=\"100%\" y1=\"", at, "\" y2=\"", at,
                    "\"/><text x=\"0\" y=\"", at, "\" dx=\"-6\" dy=\"4\" class=\"end\">",
                    axes.y.TickText(tick, y_ticks), "</text>\n");
  }
  for (size_t i = 0; i < x_ticks.size(); ++i) {
    const double place = axes.x.Place(x_ticks[i]);
    const std::string at = Percent(place);
    // Every other one is hidden if the page is narrow.
    absl::StrAppend(&svg, "<line class=\"tick\" x1=\"", at, "\" x2=\"", at,
                    "\" y1=\"100%\" y2=\"100%\" transform=\"translate(0 4)\"/><text x=\"", at,
                    "\" y=\"100%\" dy=\"18\" class=\"", place > 0.97 ? "end" : "mid", i % 2 == 1 ? " wide" : "", "\">",
                    axes.x.TickText(x_ticks[i], x_ticks), "</text>\n");
  }
  return svg;
}

std::string LineClasses(const PlotLine& line) {
  static constexpr const char* kNames[] = {"line", "back", "marks", "line", "ref", "points"};
  return absl::StrCat(kNames[static_cast<int>(line.kind)], " ", StyleClasses(line.style));
}

std::string LegendKey(const PlotLine& line) {
  const std::string dot = HasDots(line) ? "<circle class=\"dot\" cx=\"14\" cy=\"6\" r=\"3.5\"/>" : "";
  return absl::StrCat("<svg class=\"key ", StyleClasses(line.style),
                      "\" width=\"28\" height=\"12\" aria-hidden=\"true\"><path class=\"", LineClasses(line),
                      "\" d=\"M0 6H28\"/>", dot, "</svg>");
}

// Writes names with the last value, or room for one, which report.js replaces by the one under the pointer.
std::string Legend(const Plot& plot) {
  std::string html = "<ul class=\"legend\">";
  for (const PlotLine& line : plot.lines) {
    if (line.kind == Kind::kBackground || line.points.empty()) continue;
    absl::StrAppend(&html, "<li>", LegendKey(line), "<span><bdi>", Escape(line.name), "</bdi> <b>",
                    plot.last_values ? ValueText(line.points.back().second, plot.y_unit) : "", "</b></span></li>\n");
  }
  return absl::StrCat(html, "</ul>");
}

// Returns the attributes from which report.js reads values off the curves.
std::string ScaleAttributes(const char* name, const Axis& axis) {
  static constexpr const char* kUnitNames[] = {"number", "count", "seconds", "percent"};
  return absl::StrFormat(" data-%s=\"%.17g %.17g %d %s\"", name, axis.low(), axis.high(), axis.logarithmic() ? 1 : 0,
                         kUnitNames[static_cast<int>(axis.unit())]);
}

std::string Svg(const Plot& plot, const Axes& axes) {
  std::string svg =
      absl::StrCat("<svg class=\"plot\" role=\"img\" aria-label=\"",
                   Escape(absl::StrCat(plot.title, ". The table below has the values.")), "\"",
                   ScaleAttributes("x", axes.x), ScaleAttributes("y", axes.y), ">\n", Grid(axes), "<svg viewBox=\"0 0 ",
                   kUnits, " ", kUnits, "\" preserveAspectRatio=\"none\" class=\"curves\">\n");
  for (const bool background : {true, false}) {
    for (const PlotLine& line : plot.lines) {
      if ((line.kind == Kind::kBackground) != background || line.points.empty()) continue;
      absl::StrAppend(&svg, "<path class=\"", LineClasses(line), "\" d=\"", Path(line, axes), "\"/>\n");
      if (const std::string bars = IntervalStrokes(line, axes); !bars.empty()) {
        absl::StrAppend(&svg, "<path class=\"bars ", StyleClasses(line.style), "\" d=\"", bars, "\"/>\n");
      }
    }
  }
  absl::StrAppend(&svg, "</svg>\n");
  for (const PlotLine& line : plot.lines) {
    if (!HasDots(line)) continue;
    for (const auto& [x, y] : line.points) {
      absl::StrAppend(&svg, "<circle class=\"dot ", StyleClasses(line.style), "\" cx=\"", Percent(axes.x.Place(x)),
                      "\" cy=\"", Percent(1 - axes.y.Place(y)), "\" r=\"3.5\"/>\n");
    }
  }
  return absl::StrCat(svg, "<line class=\"cursor\" y2=\"100%\"/>\n</svg>");
}

// Returns a level or curve at x: between its points on a straight line, beyond them NaN.
double ReferenceAt(const PlotPoints& points, double x) {
  const auto after = std::lower_bound(points.begin(), points.end(), x,
                                      [](const auto& point, double value) { return point.first < value; });
  if (after == points.end()) {
    // The end of the axis may be off by a rounding.
    const bool at_end = x - points.back().first <= 1e-9 * std::abs(x);
    return at_end ? points.back().second : std::numeric_limits<double>::quiet_NaN();
  }
  if (after->first == x) return after->second;
  if (after == points.begin()) return std::numeric_limits<double>::quiet_NaN();
  const auto& before = *(after - 1);
  return before.second + (after->second - before.second) * (x - before.first) / (after->first - before.first);
}

// Returns the points that a table has of a line: the last one of steps only repeats a level.
size_t TablePoints(const PlotLine& line) {
  return line.kind == Kind::kSteps && line.points.size() > 1 ? line.points.size() - 1 : line.points.size();
}

// Returns distinct x of the lines' points, at most one more than `most`; references follow the others where there are
// any.
std::set<double> DistinctX(const std::vector<const PlotLine*>& lines, size_t most) {
  std::set<double> exact;
  for (const bool references : {false, true}) {
    if (!exact.empty()) break;
    for (const PlotLine* line : lines) {
      if ((line->kind == Kind::kReference) != references) continue;
      for (size_t i = 0; i < TablePoints(*line) && exact.size() <= most; ++i) exact.insert(line->points[i].first);
    }
  }
  return exact;
}

// If there are few distinct x, there is a row for each; else rows are for equal parts of the axis.
std::string DataTable(const Plot& plot, const Axes& axes) {
  constexpr size_t kMostRows = 32;
  std::vector<const PlotLine*> lines;
  for (const PlotLine& line : plot.lines) {
    if (line.kind != Kind::kBackground && !line.points.empty()) lines.push_back(&line);
  }
  if (lines.empty()) return "";
  const std::set<double> exact = DistinctX(lines, kMostRows);
  const bool each = exact.size() <= kMostRows;
  Table table{.caption = absl::StrCat(plot.title, each ? "" : ": means of equal parts of the axis")};
  table.header.push_back(Escape(absl::StrCat(plot.x_title, each ? "" : ", up to")));
  for (const PlotLine* line : lines) table.header.push_back(absl::StrCat("<bdi>", Escape(line->name), "</bdi>"));
  std::vector<double> ends(exact.begin(), exact.end());
  if (!each) {
    ends.clear();
    for (size_t i = 1; i <= kMostRows; ++i) ends.push_back(axes.x.ValueAt(static_cast<double>(i) / kMostRows));
  }
  std::vector<size_t> next(lines.size(), 0);
  for (size_t row = 0; row < ends.size(); ++row) {
    const bool named = row == 0 && !plot.first_x.empty();
    std::vector<std::string> cells = {named ? Escape(plot.first_x) : ValueText(ends[row], plot.x_unit)};
    for (size_t i = 0; i < lines.size(); ++i) {
      const PlotPoints& points = lines[i]->points;
      if (lines[i]->kind == Kind::kReference) {
        const double level = ReferenceAt(points, ends[row]);
        cells.push_back(std::isnan(level) ? "" : ValueText(level, plot.y_unit));
        continue;
      }
      const size_t all = TablePoints(*lines[i]);
      double sum = 0, count = 0;
      // The last row takes all the rest: the end of the axis may be off by a rounding.
      for (; next[i] < all && (row + 1 == ends.size() || points[next[i]].first <= ends[row]); ++next[i]) {
        sum += points[next[i]].second;
        ++count;
      }
      cells.push_back(count > 0 ? ValueText(sum / count, plot.y_unit) : "");
    }
    table.rows.push_back(std::move(cells));
  }
  return Details("Data", TableHtml(table));
}

std::string AxisTitle(const std::string& title, const Axis& axis) {
  return Escape(absl::StrCat(title, axis.UnitName().empty() ? "" : ", ", axis.UnitName(),
                             axis.logarithmic() ? ", logarithmic" : ""));
}

}  // namespace

std::string StyleClasses(int style) {
  if (style < 0) return "grey";
  return absl::StrCat("c", style % kColours, " d", style % kDashes);
}

std::string PlotHtml(const Plot& plot) {
  const std::optional<Axes> axes = MakeAxes(plot);
  if (!axes.has_value()) return "";
  return absl::StrCat("<figure>\n<figcaption>", Escape(plot.title), "</figcaption>\n", Legend(plot),
                      "<p class=\"y-title\">", AxisTitle(plot.y_title, axes->y), "</p>\n<div class=\"frame\">",
                      Svg(plot, *axes), "</div>\n<p class=\"x-title\"><output></output>",
                      AxisTitle(plot.x_title, axes->x), "</p>\n",
                      plot.note.empty() ? "" : absl::StrCat("<p class=\"note\">", plot.note, "</p>\n"),
                      DataTable(plot, *axes), "</figure>\n");
}

}  // namespace isthmus::report
