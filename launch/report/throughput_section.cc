#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/strip.h>

#include <algorithm>

#include "launch/report/bars.h"
#include "launch/report/sections.h"
#include "runtime/step_phase.h"

namespace isthmus::report {
namespace {

std::string RatePlot(absl::Span<const Run> runs) {
  Plot plot{.title = "Throughput, against time",
            .x_title = "time",
            .y_title = "tokens per second",
            .note = "Lines: moving mean; faint: the records.",
            .x_unit = Unit::kSeconds,
            .y_unit = Unit::kCount,
            .y_from_zero = true,
            .lines = {}};
  for (size_t i = 0; i < runs.size(); ++i) {
    const auto& points = runs[i].Figure("train/tokens_per_second").points();
    const int style = static_cast<int>(i);
    plot.lines.push_back({.style = style, .kind = PlotLine::Kind::kBackground, .points = DrawnPoints(points, true)});
    plot.lines.push_back({.name = runs[i].name, .style = style, .points = DrawnPoints(Smooth(points), true)});
  }
  return PlotHtml(plot);
}

// Returns the names of time/<phase>_seconds: those of a step in its order, then others.
std::vector<std::string> PhasesOf(absl::Span<const Run> runs) {
  std::vector<std::string> phases(kStepPhaseNames.begin(), kStepPhaseNames.end());
  for (const Run& run : runs) {
    for (const auto& [key, series] : run.figures) {
      absl::string_view name = key;
      if (!absl::ConsumePrefix(&name, "time/") || !absl::ConsumeSuffix(&name, "_seconds")) continue;
      if (std::count(phases.begin(), phases.end(), name) == 0) phases.emplace_back(name);
    }
  }
  return phases;
}

std::string PhaseBars(absl::Span<const Run> runs) {
  Bars bars{
      .title = "Time of a step by phase",
      .note =
          "Mean over all records; each phase on the rank that is slowest in it. Percentages are of the run’s own step.",
      .parts = PhasesOf(runs),
      .bars = {}};
  for (const Run& run : runs) {
    Bar bar{.name = run.name, .parts = {}};
    for (const std::string& phase : bars.parts) {
      bar.parts.push_back(MeanOfLastPart(run.Figure("time/" + phase + "_seconds"), 1));
    }
    bars.bars.push_back(std::move(bar));
  }
  return BarsHtml(bars);
}

}  // namespace

std::string ThroughputSection(absl::Span<const Run> runs) {
  return SectionHtml("Throughput", PlotGrid(absl::StrCat(RatePlot(runs), PhaseBars(runs))));
}

}  // namespace isthmus::report
