#include "launch/sweep/regression_section.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "launch/report/html.h"
#include "launch/report/plot.h"
#include "launch/report/sections.h"
#include "launch/sweep/regressions.h"

namespace isthmus::sweep {
namespace {

using report::Escape;

// Returns the sentence that says what a line shows, as text.
std::string SentenceOf(const FigureFit& fit, double confidence) {
  if (!fit.line.ok()) return absl::StrCat(fit.key, ": no line can be given: ", fit.line.status().message(), ".");
  const LineFit& line = *fit.line;
  const std::string figures = absl::StrFormat(
      "slope %+.3g, %g %% interval %+.3g to %+.3g over %d arms; of unseen arms' variance %.0f %%", line.slope,
      100 * confidence, line.slope_interval.low, line.slope_interval.high, line.count, 100 * line.left_out_r_squared);
  if (!line.slope_interval.Excludes(0)) {
    return absl::StrCat(fit.key, " is not shown to predict tokens to the loss: ", figures, ".");
  }
  const char* verdict = line.left_out_r_squared > 0
                            ? " predicts tokens to the loss: "
                            : " goes with tokens to the loss, but does not predict unseen arms: ";
  return absl::StrCat(fit.key, verdict, figures, ".");
}

std::string FitPlot(const RegressionResult& regression, const FigureFit& fit, const std::string& caption) {
  report::Plot plot{.title = absl::StrCat("Tokens to the worst arm’s loss by ", fit.key),
                    .x_title = fit.key,
                    .y_title = "tokens",
                    .note = absl::StrCat("A point for each arm. ", Escape(caption)),
                    .x_unit = report::Unit::kNumber,
                    .y_unit = report::Unit::kCount,
                    .x_from_zero = false,
                    .last_values = false,
                    .y_logarithmic_above = 1.2,
                    .lines = {}};
  report::PlotLine line{
      .name = "line of least squares", .style = report::kGrey, .kind = report::PlotLine::Kind::kReference};
  for (size_t i = 0; i < fit.points.size(); ++i) {
    const auto& [x, y] = fit.points[i];
    plot.lines.push_back({.name = regression.arms[i],
                          .style = static_cast<int>(i) % report::kStyles,
                          .kind = report::PlotLine::Kind::kMarkers,
                          .points = {{x, std::exp(y)}}});
    if (fit.line.ok()) line.points.emplace_back(x, std::exp(fit.line->intercept + fit.line->slope * x));
  }
  std::sort(line.points.begin(), line.points.end());
  plot.lines.push_back(std::move(line));
  return PlotHtml(plot);
}

}  // namespace

std::string RegressionSection(const proto::SweepConfig& config, absl::Span<const ArmResult> results,
                              const std::string& caption) {
  std::string sections;
  for (const RegressionResult& regression : RegressionsOf(config, results)) {
    std::string sentences, plots;
    for (const FigureFit& fit : regression.fits) {
      absl::StrAppend(&sentences, "<li>", Escape(SentenceOf(fit, config.confidence())), "</li>\n");
      absl::StrAppend(&plots, FitPlot(regression, fit, caption));
    }
    std::string html = absl::StrCat("<ul class=\"findings\">\n", sentences, "</ul>\n");
    if (!regression.left_out.empty()) {
      absl::StrAppend(&html, "<p class=\"warning\">Without ", Escape(absl::StrJoin(regression.left_out, "; ")),
                      "</p>\n");
    }
    absl::StrAppend(
        &html, report::PlotGrid(plots),
        "<p class=\"note\">Straight lines to the logarithm of the tokens. Of unseen arms’ variance: each arm "
        "is predicted by the line through all others, against the mean of all others; 100 % is perfect, and "
        "below 0 the mean predicts better.</p>\n");
    absl::StrAppend(&sections, report::SectionHtml(absl::StrCat("Does it predict? ", regression.name,
                                                                regression.cell.empty() ? "" : ", ", regression.cell),
                                                   html));
  }
  return sections;
}

}  // namespace isthmus::sweep
