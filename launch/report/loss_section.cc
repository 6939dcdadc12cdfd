#include <absl/strings/str_cat.h>

#include <algorithm>
#include <cmath>

#include "launch/report/sections.h"

namespace isthmus::report {
namespace {

constexpr const char* kLossNote =
    "<p class=\"note\">Lines: training loss as a moving mean over 5 % of the run’s records, at least 10, drawn at "
    "their "
    "centre; faint: the records. Dots: validation loss, of the same samples each time.</p>\n";

double PositionOf(const Run& run, bool against_time) { return against_time ? run.seconds : run.tokens; }

// Adds one level if all runs have it from the same tokens.
void AddEntropies(absl::Span<const Run> runs, bool against_time, Plot& plot) {
  std::vector<double> seen;
  for (size_t i = 0; i < runs.size(); ++i) {
    const double entropy = runs[i].Fact("unigram_entropy");
    if (!(entropy > 0) || !IsPlottable(entropy) || std::count(seen.begin(), seen.end(), entropy) > 0) continue;
    seen.push_back(entropy);
    double last = 0;
    for (const Run& run : runs) {
      const double end = PositionOf(run, against_time);
      if (run.Fact("unigram_entropy") == entropy && IsPlottable(end)) last = std::max(last, end);
    }
    plot.lines.push_back(
        {.name = seen.size() == 1 ? "unigram entropy" : absl::StrCat("unigram entropy, ", runs[i].name),
         .style = static_cast<int>(i),
         .kind = PlotLine::Kind::kReference,
         .points = {{0, entropy}, {last, entropy}}});
  }
  if (seen.size() == 1) plot.lines.back().style = kGrey;
}

// Returns the points from `start` on.
PlotPoints From(double start, PlotPoints points) {
  points.erase(points.begin(),
               std::find_if(points.begin(), points.end(), [&](const auto& point) { return point.first >= start; }));
  return points;
}

// Plots the whole, or the part after `start`: early losses leave the later ones little room.
std::string LossPlot(absl::Span<const Run> runs, bool against_time, double start) {
  Plot plot{.title = absl::StrCat("Loss against ", against_time ? "time" : "tokens", start > 0 ? ", later half" : ""),
            .x_title = against_time ? "time" : "tokens",
            .y_title = "nats per token",
            .x_unit = against_time ? Unit::kSeconds : Unit::kCount,
            .x_from_zero = start == 0,
            .y_logarithmic_above = 1.5,
            .lines = {}};
  for (size_t i = 0; i < runs.size(); ++i) {
    const std::string name = runs.size() == 1 ? "" : runs[i].name + ", ";
    const int style = static_cast<int>(i);
    const auto& loss = runs[i].Figure("train/loss").points();
    const auto& validation = runs[i].Figure("validation/loss").points();
    plot.lines.push_back(
        {.style = style, .kind = PlotLine::Kind::kBackground, .points = From(start, DrawnPoints(loss, against_time))});
    plot.lines.push_back(
        {.name = name + "training", .style = style, .points = From(start, DrawnPoints(Smooth(loss), against_time))});
    plot.lines.push_back({.name = name + "validation",
                          .style = style,
                          .kind = PlotLine::Kind::kMarkers,
                          .points = From(start, DrawnPoints(validation, against_time))});
  }
  const bool any =
      std::any_of(plot.lines.begin(), plot.lines.end(), [](const auto& line) { return !line.points.empty(); });
  if (any && start == 0) AddEntropies(runs, against_time, plot);
  return PlotHtml(plot);
}

std::string LaterHalf(absl::Span<const Run> runs, bool against_time) {
  constexpr size_t kLeastPoints = 40;
  double end = 0;
  size_t points = 0;
  for (const Run& run : runs) {
    if (IsPlottable(PositionOf(run, against_time))) end = std::max(end, PositionOf(run, against_time));
    points = std::max(points, run.Figure("train/loss").points().size());
  }
  return points >= kLeastPoints && end > 0 ? LossPlot(runs, against_time, end / 2) : "";
}

}  // namespace

std::string LossSection(absl::Span<const Run> runs) {
  const std::string plots =
      absl::StrCat(LossPlot(runs, false, 0), LossPlot(runs, true, 0), LaterHalf(runs, false), LaterHalf(runs, true));
  return SectionHtml("Loss", plots.empty() ? "" : absl::StrCat(kLossNote, PlotGrid(plots)));
}

}  // namespace isthmus::report
