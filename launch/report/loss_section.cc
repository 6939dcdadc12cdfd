#include <absl/strings/str_cat.h>

#include <algorithm>
#include <cmath>

#include "launch/report/sections.h"

namespace isthmus::report {
namespace {

constexpr const char* kLossNote =
    "Lines: training loss as a moving mean over 2 % of the run’s records, at least 5; faint: the records. Dots: "
    "validation loss, of the same samples each time.";

// One level where all runs have it from the same tokens.
void AddEntropies(absl::Span<const Run> runs, bool against_time, Plot& plot) {
  std::vector<double> seen;
  for (size_t i = 0; i < runs.size(); ++i) {
    const double entropy = runs[i].Fact("unigram_entropy");
    if (!(entropy > 0) || !IsPlottable(entropy) || std::count(seen.begin(), seen.end(), entropy) > 0) continue;
    seen.push_back(entropy);
    double last = 0;
    for (const Run& run : runs) {
      const double end = against_time ? run.seconds : run.tokens;
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

std::string LossPlot(absl::Span<const Run> runs, bool against_time) {
  Plot plot{.title = against_time ? "Loss against time" : "Loss against tokens",
            .x_title = against_time ? "time" : "tokens",
            .y_title = "nats per token",
            .note = against_time ? "" : kLossNote,
            .x_unit = against_time ? Unit::kSeconds : Unit::kCount,
            .y_logarithmic = true,
            .lines = {}};
  for (size_t i = 0; i < runs.size(); ++i) {
    const std::string name = runs.size() == 1 ? "" : runs[i].name + ", ";
    const int style = static_cast<int>(i);
    const auto& loss = runs[i].Figure("train/loss").points();
    plot.lines.push_back(
        {.style = style, .kind = PlotLine::Kind::kBackground, .points = DrawnPoints(loss, against_time)});
    plot.lines.push_back(
        {.name = name + "training", .style = style, .points = DrawnPoints(Smooth(loss), against_time)});
    plot.lines.push_back({.name = name + "validation",
                          .style = style,
                          .kind = PlotLine::Kind::kMarkers,
                          .points = DrawnPoints(runs[i].Figure("validation/loss").points(), against_time)});
  }
  const bool any =
      std::any_of(plot.lines.begin(), plot.lines.end(), [](const auto& line) { return !line.points.empty(); });
  if (any) AddEntropies(runs, against_time, plot);
  return PlotHtml(plot);
}

}  // namespace

std::string LossSection(absl::Span<const Run> runs) {
  return SectionHtml("Loss", PlotGrid(absl::StrCat(LossPlot(runs, false), LossPlot(runs, true))));
}

}  // namespace isthmus::report
