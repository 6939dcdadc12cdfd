#include <absl/strings/str_cat.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "launch/report/first_order_decrease.h"
#include "launch/report/sections.h"

namespace isthmus::report {
namespace {

constexpr const char* kUpdateNote =
    "<p class=\"note\">A step changes the logits through the hidden states, which the rest of the network makes, and "
    "through the head itself. The head limits the first way twice: it passes on a part of the gradient alone (visible "
    "cosine), and distorts that part unless all its singular values are alike (conditioning).</p>\n";

PlotLine LineOf(const Run& run, size_t index, const std::string& key) {
  return {.name = run.name, .style = static_cast<int>(index), .points = DrawnPoints(run.Figure(key).points())};
}

std::string FigureOfRunsPlot(absl::Span<const Run> runs, const std::string& key, Plot plot) {
  plot.x_title = "tokens";
  for (size_t i = 0; i < runs.size(); ++i) plot.lines.push_back(LineOf(runs[i], i, key));
  return PlotHtml(plot);
}

constexpr const char* kVisible = "head/visible_cosine";
constexpr const char* kHiddenUpdate = "head/hidden_update_cosine";

// Two lines for each of many runs would leave no room for their legend.
std::string CosinePlots(absl::Span<const Run> runs) {
  constexpr size_t kMostTogether = 6;
  if (runs.size() > kMostTogether) {
    return absl::StrCat(
        FigureOfRunsPlot(runs, kVisible,
                         {.title = "Visible cosine",
                          .y_title = "cosine with the logit gradient",
                          .note = "The cosine of the gradient and the part that the head passes on.",
                          .y_logarithmic_above = 10,
                          .lines = {}}),
        FigureOfRunsPlot(runs, kHiddenUpdate,
                         {.title = "Hidden-update cosine",
                          .y_title = "cosine with the logit gradient",
                          .note = "The cosine of the gradient and the logits’ change through the hidden states.",
                          .y_logarithmic_above = 10,
                          .lines = {}}));
  }
  Plot plot{
      .title = "Cosine with the logit gradient",
      .x_title = "tokens",
      .y_title = "cosine",
      .note = "Lines: of the part that the head passes on. Dotted: of the logits’ change through the hidden states.",
      .y_logarithmic_above = 10,
      .lines = {}};
  for (size_t i = 0; i < runs.size(); ++i) {
    const std::string name = runs.size() == 1 ? "" : runs[i].name + ", ";
    plot.lines.push_back(LineOf(runs[i], i, kVisible));
    plot.lines.back().name = name + "visible";
    plot.lines.push_back(LineOf(runs[i], i, kHiddenUpdate));
    plot.lines.back().name = name + "hidden update";
    plot.lines.back().kind = PlotLine::Kind::kReference;
  }
  return PlotHtml(plot);
}

// Returns ‖A‖² / (‖A‖² + ‖B‖²) where both are recorded.
std::vector<SeriesPoint> HiddenEnergyShares(const Run& run) {
  const auto& hidden = run.Figure("head/hidden_gradient_norm").points();
  const auto& own = run.Figure("head/gradient_norm").points();
  std::vector<SeriesPoint> shares;
  size_t k = 0;
  for (SeriesPoint point : hidden) {
    while (k < own.size() && own[k].tokens < point.tokens) ++k;
    if (k == own.size() || own[k].tokens != point.tokens) continue;
    const double a = point.value * point.value, b = own[k].value * own[k].value;
    if (!(a + b > 0) || !IsPlottable(a + b)) continue;
    point.value = a / (a + b);
    shares.push_back(point);
  }
  return shares;
}

std::string EnergyPlot(absl::Span<const Run> runs) {
  Plot plot{
      .title = "Gradient energy in the hidden states",
      .x_title = "tokens",
      .y_title = "of hidden states and head together",
      .note =
          "‖A‖² / (‖A‖² + ‖B‖²), of the gradients by the hidden states and by the head’s own parameters: the part "
          "of a plain gradient step’s effect that goes through the hidden states.",
      .y_unit = Unit::kPercent,
      .y_logarithmic_above = 10,
      .lines = {}};
  for (size_t i = 0; i < runs.size(); ++i) {
    plot.lines.push_back(
        {.name = runs[i].name, .style = static_cast<int>(i), .points = DrawnPoints(HiddenEnergyShares(runs[i]))});
  }
  return PlotHtml(plot);
}

Plot DecreasePlot(std::string title) {
  return {.title = std::move(title),
          .x_title = "tokens",
          .y_title = "of the first-order decrease",
          .y_unit = Unit::kPercent,
          .y_from_zero = true,
          .lines = {}};
}

std::string DecreaseOfRunPlot(const Run& run) {
  Plot plot = DecreasePlot("Decrease of the loss by part");
  int style = 0;
  for (const std::string& part : UpdatedParts(run)) {
    plot.lines.push_back(
        {.name = part, .style = style++, .points = DrawnPoints(DecreaseShares(run, PartDecreaseKey(part)))});
  }
  return PlotHtml(plot);
}

std::string GroupsOfRunPlot(const Run& run, bool named) {
  Plot plot = DecreasePlot(absl::StrCat("Decrease of the loss by optimizer group", named ? ", " + run.name : ""));
  int style = 0;
  for (const std::string& group : UpdatedGroups(run)) {
    plot.lines.push_back(
        {.name = group, .style = style++, .points = DrawnPoints(DecreaseShares(run, GroupDecreaseKey(group)))});
  }
  return PlotHtml(plot);
}

// With several runs there is a plot for each part, so that runs can be told apart.
std::string DecreaseOfPartPlot(absl::Span<const Run> runs, const std::string& part) {
  Plot plot = DecreasePlot(absl::StrCat("Decrease of the loss by the ", part));
  for (size_t i = 0; i < runs.size(); ++i) {
    plot.lines.push_back({.name = runs[i].name,
                          .style = static_cast<int>(i),
                          .points = DrawnPoints(DecreaseShares(runs[i], PartDecreaseKey(part)))});
  }
  return PlotHtml(plot);
}

constexpr const char* kDecreaseNote =
    "<p class=\"note\">Whose update lowers the loss: −⟨gradient, update⟩ of the update as the optimizer made it, as a "
    "share of all parts together. Moving means over 5 % of the measured records, at least 10. Below 0: the update "
    "raises "
    "the loss.</p>\n";

std::string DecreasePlots(absl::Span<const Run> runs) {
  std::string plots;
  if (runs.size() == 1) {
    plots = DecreaseOfRunPlot(runs[0]);
  } else {
    std::vector<std::string> parts;
    for (const Run& run : runs) {
      for (std::string& part : UpdatedParts(run)) {
        if (std::count(parts.begin(), parts.end(), part) == 0) parts.push_back(std::move(part));
      }
    }
    for (const std::string& part : parts) absl::StrAppend(&plots, DecreaseOfPartPlot(runs, part));
  }
  for (const Run& run : runs) absl::StrAppend(&plots, GroupsOfRunPlot(run, runs.size() > 1));
  return plots;
}

}  // namespace

std::string UpdateSection(absl::Span<const Run> runs) {
  const std::string plots = absl::StrCat(
      CosinePlots(runs),
      FigureOfRunsPlot(runs, "head/conditioning_cosine",
                       {.title = "Conditioning",
                        .y_title = "hidden-update cosine / visible cosine",
                        .note = "1: all singular values of the head are alike, and nothing more is lost.",
                        .lines = {}}),
      EnergyPlot(runs),
      FigureOfRunsPlot(runs, "head/update_cosine",
                       {.title = "Cosine of the whole step with the logit gradient",
                        .y_title = "cosine",
                        .note = "The cosine for a plain gradient step, through the hidden states and the head.",
                        .lines = {}}));
  const std::string decrease = DecreasePlots(runs);
  return SectionHtml("What a step changes", absl::StrCat(plots.empty() ? "" : kUpdateNote, PlotGrid(plots),
                                                         decrease.empty() ? "" : kDecreaseNote, PlotGrid(decrease)));
}

}  // namespace isthmus::report
