#include "launch/report/bars.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>

#include "launch/report/axis.h"
#include "launch/report/html.h"
#include "launch/report/plot.h"

namespace isthmus::report {
namespace {

double TotalOf(const Bar& bar) {
  double total = 0;
  for (const double part : bar.parts) total += part > 0 ? part : 0;
  return total;
}

std::string BarSvg(const Bars& bars, const Bar& bar, double longest) {
  // Narrower parts have no room for their share.
  constexpr double kLeastForText = 0.09;
  const double total = TotalOf(bar);
  std::string svg =
      absl::StrCat("<svg class=\"bar\" role=\"img\" aria-label=\"",
                   Escape(absl::StrCat(bars.title, ", ", bar.name, ". The table below has the values.")), "\">\n");
  double left = 0;
  for (size_t i = 0; i < bar.parts.size(); ++i) {
    if (!(bar.parts[i] > 0)) continue;
    const double width = bar.parts[i] / longest;
    absl::StrAppendFormat(
        &svg, "<rect class=\"%s\" x=\"%.3f%%\" width=\"%.3f%%\" height=\"100%%\"><title>%s %s</title></rect>",
        StyleClasses(static_cast<int>(i)), 100 * left, 100 * width, Escape(bars.parts[i]),
        ValueText(bar.parts[i], Unit::kSeconds));
    if (width > kLeastForText) {
      absl::StrAppendFormat(&svg, "<text class=\"mid\" x=\"%.3f%%\" y=\"50%%\" dy=\"4\">%.0f %%</text>",
                            100 * (left + width / 2), 100 * bar.parts[i] / total);
    }
    absl::StrAppend(&svg, "\n");
    left += width;
  }
  return absl::StrCat(svg, "</svg>");
}

}  // namespace

std::string BarsHtml(const Bars& bars) {
  double longest = 0;
  for (const Bar& bar : bars.bars) longest = std::max(longest, TotalOf(bar));
  if (!(longest > 0)) return "";
  std::string html = absl::StrCat("<figure>\n<figcaption>", Escape(bars.title), "</figcaption>\n<ul class=\"legend\">");
  Table table{.caption = absl::StrCat(bars.title, ", seconds"), .header = {"Run"}};
  for (size_t i = 0; i < bars.parts.size(); ++i) {
    absl::StrAppend(&html, "<li><svg class=\"key ", StyleClasses(static_cast<int>(i)),
                    "\" width=\"14\" height=\"12\" aria-hidden=\"true\"><rect width=\"100%\" height=\"100%\" class=\"",
                    StyleClasses(static_cast<int>(i)), "\"/></svg><span>", Escape(bars.parts[i]), "</span></li>\n");
    table.header.push_back(Escape(bars.parts[i]));
  }
  table.header.push_back("sum");
  absl::StrAppend(&html, "</ul>\n");
  for (const Bar& bar : bars.bars) {
    const std::string name = absl::StrCat("<bdi>", Escape(bar.name), "</bdi>");
    absl::StrAppend(&html, "<p class=\"bar-name\">", name, " <b>", ValueText(TotalOf(bar), Unit::kSeconds), "</b></p>",
                    BarSvg(bars, bar, longest), "\n");
    std::vector<std::string> row = {name};
    for (const double part : bar.parts) row.push_back(ValueText(part, Unit::kNumber));
    row.push_back(ValueText(TotalOf(bar), Unit::kNumber));
    table.rows.push_back(std::move(row));
  }
  if (!bars.note.empty()) absl::StrAppend(&html, "<p class=\"note\">", bars.note, "</p>\n");
  return absl::StrCat(html, Details("Data", TableHtml(table)), "</figure>\n");
}

}  // namespace isthmus::report
