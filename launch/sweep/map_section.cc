#include "launch/sweep/map_section.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "launch/report/html.h"
#include "launch/report/sections.h"

namespace isthmus::sweep {
namespace {

using report::Escape;

// The arms of all combinations of two axes' values: rows are values of the first, columns of the second.
class FigureMap {
 public:
  FigureMap(const proto::SweepConfig& config, absl::Span<const ArmResult> results, size_t figure)
      : config_(config), cells_(CellsOf(results)), figure_(figure) {
    for (const ArmResult& arm : results) {
      const double value = arm.figures[figure].value();
      if (!std::isfinite(value)) continue;
      low_ = std::min(low_, value);
      high_ = std::max(high_, value);
    }
  }

  std::string OfArm(const std::string& name) const {
    return Html(name, [&](absl::Span<const ArmResult> cell) {
      for (const ArmResult& arm : cell) {
        if (arm.survey.arm == name) return CellHtml(arm.figures[figure_].value(), "");
      }
      return std::string("<td>–</td>");
    });
  }

  std::string OfBest() const {
    return Html("best arm of each place", [&](absl::Span<const ArmResult> cell) {
      const ArmResult* best = nullptr;
      for (const ArmResult& arm : cell) {
        const double value = arm.figures[figure_].value();
        if (!std::isfinite(value)) continue;
        const double found = best == nullptr ? value : best->figures[figure_].value();
        if (best == nullptr || (Figure().higher_is_better() ? value > found : value < found)) best = &arm;
      }
      return best == nullptr ? std::string("<td>–</td>") : CellHtml(best->figures[figure_].value(), best->survey.arm);
    });
  }

 private:
  const proto::SweepFigure& Figure() const { return config_.figures(static_cast<int>(figure_)); }

  // Shades a value by its place between the lowest and the highest of all maps of the figure.
  std::string CellHtml(double value, const std::string& arm) const {
    if (!std::isfinite(value)) return "<td>–</td>";
    const double share = high_ > low_ ? (value - low_) / (high_ - low_) : 0;
    return absl::StrFormat("<td style=\"--share:%.0f%%\">%.3g%s</td>", 70 * share, value,
                           arm.empty() ? "" : absl::StrCat("<br><small>", Escape(arm), "</small>"));
  }

  std::string Html(const std::string& title,
                   const std::function<std::string(absl::Span<const ArmResult>)>& show) const {
    const proto::SweepAxis &rows = config_.axes(0), &columns = config_.axes(1);
    std::string html = absl::StrCat("<figure>\n<figcaption>", Escape(title),
                                    "</figcaption>\n<div class=\"scroll\"><table class=\"map\">\n<tr><th>",
                                    Escape(rows.name()), " \\ ", Escape(columns.name()), "</th>");
    for (const proto::SweepChoice& column : columns.values()) {
      absl::StrAppend(&html, "<th scope=\"col\">", Escape(column.name()), "</th>");
    }
    // Combinations come in the order of the axes, the last one fastest.
    for (int row = 0; row < rows.values_size(); ++row) {
      absl::StrAppend(&html, "</tr>\n<tr><th scope=\"row\">", Escape(rows.values(row).name()), "</th>");
      for (int column = 0; column < columns.values_size(); ++column) {
        html += show(cells_[static_cast<size_t>(row * columns.values_size() + column)]);
      }
    }
    return absl::StrCat(html, "</tr>\n</table></div>\n</figure>\n");
  }

  const proto::SweepConfig& config_;
  const std::vector<absl::Span<const ArmResult>> cells_;
  const size_t figure_;
  double low_ = std::numeric_limits<double>::infinity(), high_ = -std::numeric_limits<double>::infinity();
};

}  // namespace

std::string MapSection(const proto::SweepConfig& config, absl::Span<const ArmResult> results,
                       const std::string& caption) {
  std::string sections;
  for (int i = 0; i < config.figures_size(); ++i) {
    const proto::SweepFigure& figure = config.figures(i);
    if (!figure.map() || config.axes_size() != 2) continue;
    const FigureMap map(config, results, static_cast<size_t>(i));
    std::string maps;
    for (const proto::SweepChoice& arm : config.arms()) maps += map.OfArm(arm.name());
    maps += map.OfBest();
    absl::StrAppend(&sections,
                    report::SectionHtml(FigureTitle(figure), absl::StrCat(report::PlotGrid(maps),
                                                                          "<p class=\"note\">Means over seeds at each "
                                                                          "arm’s own best settings. ",
                                                                          Escape(caption), "</p>\n")));
  }
  return sections;
}

}  // namespace isthmus::sweep
