#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_replace.h>
#include <absl/strings/strip.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "launch/report/html.h"
#include "launch/report/sections.h"

namespace isthmus::report {
namespace {

constexpr const char* kLostNote =
    "<p class=\"note\">What the head’s columns cannot carry never reaches the network: ‖G<sub>⊥</sub>‖ / ‖G‖ of the "
    "gradient of the "
    "logits, and its square. Dotted: a head of that rank in random position.</p>\n";

// Adds the part lost by a head in random position; it is one line if all runs agree.
void AddIsotropic(absl::Span<const Run> runs, bool energy, Plot& plot) {
  std::vector<double> seen;
  for (size_t i = 0; i < runs.size(); ++i) {
    const auto& points = runs[i].Figure("head/isotropic_lost_norm_ratio").points();
    if (points.empty() || std::count(seen.begin(), seen.end(), points.back().value) > 0) continue;
    seen.push_back(points.back().value);
    PlotLine line{.name = absl::StrCat("random head", runs.size() == 1 ? "" : ", " + runs[i].name),
                  .style = static_cast<int>(i),
                  .kind = PlotLine::Kind::kReference,
                  .points = DrawnPoints(points)};
    for (auto& [x, y] : line.points) y = energy ? y * y : y;
    plot.lines.push_back(std::move(line));
  }
  if (seen.size() != 1) return;
  plot.lines.back().name = "random head";
  plot.lines.back().style = kGrey;
}

std::string LostPlot(absl::Span<const Run> runs, bool energy) {
  Plot plot{.title = energy ? "Energy lost, against tokens" : "Norm lost, against tokens",
            .x_title = "tokens",
            .y_title = energy ? "of the gradient’s energy" : "of the gradient’s norm",
            .y_unit = Unit::kPercent,
            .lines = {}};
  const char* key = energy ? "head/lost_energy_ratio" : "head/lost_norm_ratio";
  for (size_t i = 0; i < runs.size(); ++i) {
    plot.lines.push_back(
        {.name = runs[i].name, .style = static_cast<int>(i), .points = DrawnPoints(runs[i].Figure(key).points())});
  }
  AddIsotropic(runs, energy, plot);
  return PlotHtml(plot);
}

constexpr const char* kPartsNote =
    "<p class=\"note\">Where in the vocabulary the gradient’s energy lies: dotted in the gradient itself, as a line in "
    "what "
    "the head passes on. The projection moves energy between the parts: what a part loses does not follow.</p>\n";

// Draws two lines for each part. If there are many parts, it draws those with the least, the median and the most at the
// end.
std::string PartsPlot(const Run& run, const std::vector<Part>& parts, const std::string& title) {
  std::vector<const Part*> shown;
  for (const Part& part : parts) {
    if (!part.energy_share.empty()) shown.push_back(&part);
  }
  const size_t all = shown.size();
  if (all > kColours) {
    std::sort(shown.begin(), shown.end(),
              [](const Part* a, const Part* b) { return a->energy_share.Last() < b->energy_share.Last(); });
    shown = {shown.front(), shown[all / 2], shown.back()};
  }
  Plot plot{
      .title = absl::StrCat(title, ", ", run.name),
      .x_title = "tokens",
      .y_title = "of the energy",
      .note = all > shown.size()
                  ? absl::StrCat("Of ", all, " parts: with the least of the gradient at the end, the median, the most.")
                  : "",
      .y_unit = Unit::kPercent,
      .lines = {}};
  for (size_t i = 0; i < shown.size(); ++i) {
    plot.lines.push_back({.name = absl::StrCat(shown[i]->name, ", after"),
                          .style = static_cast<int>(i),
                          .points = DrawnPoints(shown[i]->retained_energy_share.points())});
    plot.lines.push_back({.name = absl::StrCat(shown[i]->name, ", before"),
                          .style = static_cast<int>(i),
                          .kind = PlotLine::Kind::kReference,
                          .points = DrawnPoints(shown[i]->energy_share.points())});
  }
  return PlotHtml(plot);
}

// Turns "head/singular_values" into "Singular values".
std::string FigureTitle(absl::string_view key) {
  std::string title(absl::StripPrefix(key, "head/"));
  title = absl::StrReplaceAll(title, {{"_", " "}, {"/", " "}});
  if (!title.empty() && title[0] >= 'a' && title[0] <= 'z') title[0] = static_cast<char>(title[0] - 'a' + 'A');
  return title;
}

// Returns as many points as logarithmic axes can tell apart.
PlotPoints SpectrumPoints(const Profile& profile) {
  PlotPoints points;
  double next = 0;
  for (const auto& [index, value] : profile) {
    if (!IsPlottable(value) || value <= 0 || (index < next && index != profile.back().first)) continue;
    points.emplace_back(index, value);
    next = index * 1.015;
  }
  return points;
}

constexpr const char* kHeadSpectrum = "head/singular_values";
constexpr const char* kSampleSpectrum = "head/sampled_singular_values";

std::string SpectrumTitle(const std::string& key) {
  if (key == kHeadSpectrum) return "Singular values of the head";
  if (key == kSampleSpectrum) return "Singular values of the logit gradient";
  return FigureTitle(key);
}

// Returns a text like ", 256 tokens, step 600".
std::string SpectrumOrigin(const Run& run, const std::string& key) {
  std::string text;
  const double tokens = run.Figure("head/sampled_tokens").Last();
  if (key == kSampleSpectrum && tokens > 0) absl::StrAppend(&text, ", ", WholeText(tokens), " tokens");
  double step = key == kHeadSpectrum ? run.Figure("head/singular_values_step").Last() : run.spectrum_steps.at(key);
  if (std::isnan(step)) step = run.spectrum_steps.at(key);
  if (!std::isnan(step)) absl::StrAppend(&text, ", step ", WholeText(step));
  return text;
}

std::string SpectrumPlot(absl::Span<const Run> runs, const std::string& key) {
  Plot plot{.title = SpectrumTitle(key),
            .x_title = "place in descending order",
            .y_title = "value",
            .x_unit = Unit::kNumber,
            .x_from_zero = false,
            .last_values = false,
            .x_logarithmic_above = 10,
            .y_logarithmic_above = 10,
            .lines = {}};
  std::vector<std::string> origins;
  for (size_t i = 0; i < runs.size(); ++i) {
    const auto found = runs[i].spectra.find(key);
    if (found == runs[i].spectra.end()) continue;
    plot.lines.push_back({.name = runs[i].name, .style = static_cast<int>(i), .points = SpectrumPoints(found->second)});
    origins.push_back(SpectrumOrigin(runs[i], key));
  }
  if (std::set<std::string>(origins.begin(), origins.end()).size() == 1) {
    plot.title += origins.front();
  } else {
    for (size_t i = 0; i < origins.size(); ++i) plot.lines[i].name += origins[i];
  }
  return PlotHtml(plot);
}

// Returns true if the bounds are spaced by factors rather than by differences.
bool IsLogarithmic(const std::vector<double>& bounds) {
  return bounds.front() > 0 && bounds.back() > 100 * bounds.front();
}

// Returns shares of the count, level between two bounds. The parts beyond the first and the last bound are shown as
// wide as the parts beside them.
PlotPoints HistogramPoints(const Counts& histogram) {
  const auto& bounds = histogram.bounds;
  double total = 0;
  for (const double count : histogram.counts) total += count;
  if (!(total > 0) || !IsPlottable(total)) return {};
  for (size_t i = 0; i < bounds.size(); ++i) {
    if (!IsPlottable(bounds[i]) || (i > 0 && bounds[i] <= bounds[i - 1])) return {};
  }
  const size_t last = bounds.size() - 1;
  double first_edge = bounds[0] - 1, last_edge = bounds[0] + 1;
  if (last > 0 && IsLogarithmic(bounds)) {
    first_edge = bounds[0] * (bounds[0] / bounds[1]);
    last_edge = bounds[last] * (bounds[last] / bounds[last - 1]);
  } else if (last > 0) {
    first_edge = 2 * bounds[0] - bounds[1];
    if (bounds[0] >= 0) first_edge = std::max(first_edge, 0.0);
    last_edge = 2 * bounds[last] - bounds[last - 1];
  }
  PlotPoints points;
  for (size_t i = 0; i <= last + 1; ++i) {
    points.emplace_back(i == 0 ? first_edge : bounds[i - 1], histogram.counts[i] / total);
  }
  points.emplace_back(last_edge, histogram.counts.back() / total);
  return points;
}

std::string HistogramPlot(absl::Span<const Run> runs, const std::string& key) {
  Plot plot{.title = absl::StrCat(FigureTitle(key), ", latest"),
            .x_title = "value, from",
            .y_title = "of the tokens",
            .x_unit = Unit::kNumber,
            .y_unit = Unit::kPercent,
            .x_from_zero = false,
            .y_from_zero = true,
            .last_values = false,
            .x_logarithmic_above = 1,
            .lines = {}};
  for (size_t i = 0; i < runs.size(); ++i) {
    const auto found = runs[i].histograms.find(key);
    if (found == runs[i].histograms.end()) continue;
    plot.lines.push_back({.name = runs[i].name,
                          .style = static_cast<int>(i),
                          .kind = PlotLine::Kind::kSteps,
                          .points = HistogramPoints(found->second)});
    const std::vector<double>& bounds = found->second.bounds;
    if (!IsLogarithmic(bounds)) plot.x_logarithmic_above = 0;
    // The part below the first bound has no width of its own. Figures that are never negative have bounds above 0.
    plot.first_x = bounds.front() > 0 ? "0" : absl::StrCat("below ", ValueText(bounds.front(), Unit::kNumber));
  }
  return PlotHtml(plot);
}

// Plots the energy that the head keeps beside that of the best matrix of its rank.
std::string KeptPlot(absl::Span<const Run> runs) {
  Plot plot{.title = "Energy kept, of sampled tokens",
            .x_title = "tokens",
            .y_title = "of the gradient’s energy",
            .note = "Lines: by the head. Dotted: by the best matrix of its rank.",
            .y_unit = Unit::kPercent,
            .lines = {}};
  for (size_t i = 0; i < runs.size(); ++i) {
    const std::string name = runs.size() == 1 ? "" : runs[i].name + ", ";
    const int style = static_cast<int>(i);
    plot.lines.push_back({.name = name + "head",
                          .style = style,
                          .points = DrawnPoints(runs[i].Figure("head/sampled_retained_energy_ratio").points())});
    plot.lines.push_back({.name = name + "best",
                          .style = style,
                          .kind = PlotLine::Kind::kReference,
                          .points = DrawnPoints(runs[i].Figure("head/best_rank_energy_ratio").points())});
  }
  const bool left_out = std::any_of(runs.begin(), runs.end(), [](const Run& run) {
    return !run.Figure("head/sampled_retained_energy_ratio").empty() &&
           run.Figure("head/best_rank_energy_ratio").empty();
  });
  if (left_out) {
    plot.note += " Where no more tokens are sampled than that rank it would keep everything, and is left out.";
  }
  return PlotHtml(plot);
}

// Draws one figure of the residual stream by layer.
std::string LayersPlot(absl::Span<const Run> runs, Profile Run::*profile, Plot plot) {
  plot.x_title = "layer, from the embedding to the final norm";
  plot.x_unit = Unit::kCount;
  plot.last_values = false;
  for (size_t i = 0; i < runs.size(); ++i) {
    PlotLine line{.name = runs[i].name, .style = static_cast<int>(i), .points = {}};
    for (const auto& [layer, value] : runs[i].*profile) {
      if (IsPlottable(value)) line.points.emplace_back(layer, value);
    }
    plot.lines.push_back(std::move(line));
  }
  return PlotHtml(plot);
}

std::string LayersPlots(absl::Span<const Run> runs) {
  const Plot gradient{.title = "Gradient by layer, latest",
                      .y_title = "norm of the gradient that enters the layer",
                      .y_logarithmic_above = 10};
  const Plot raw{.title = "Anisotropy by layer, latest", .y_title = "mean cosine of two tokens that enter the layer"};
  const Plot centred{.title = "Centred anisotropy by layer, latest",
                     .y_title = "mean cosine of two tokens, after their mean was subtracted"};
  return absl::StrCat(LayersPlot(runs, &Run::layer_gradient_norms, gradient),
                      LayersPlot(runs, &Run::layer_anisotropies, raw),
                      LayersPlot(runs, &Run::layer_centred_anisotropies, centred));
}

}  // namespace

std::string HeadSection(absl::Span<const Run> runs) {
  const std::string lost = absl::StrCat(LostPlot(runs, false), LostPlot(runs, true));
  std::string shards, buckets, others = KeptPlot(runs);
  std::set<std::string> spectra, histograms;
  for (const Run& run : runs) {
    // A single shard is the whole head.
    if (run.shards.size() > 1) absl::StrAppend(&shards, PartsPlot(run, run.shards, "Energy by shard"));
    absl::StrAppend(&buckets, PartsPlot(run, run.buckets, "Energy by frequency of the token"));
    for (const auto& [key, values] : run.spectra) spectra.insert(key);
    for (const auto& [key, counts] : run.histograms) {
      if (absl::StartsWith(key, "head/")) histograms.insert(key);
    }
  }
  absl::StrAppend(&others, LayersPlots(runs));
  for (const std::string& key : spectra) absl::StrAppend(&others, SpectrumPlot(runs, key));
  for (const std::string& key : histograms) absl::StrAppend(&others, HistogramPlot(runs, key));
  return SectionHtml(
      "Gradient lost in the LM head",
      absl::StrCat(lost.empty() ? "" : kLostNote, PlotGrid(lost), shards.empty() && buckets.empty() ? "" : kPartsNote,
                   PlotGrid(shards), PlotGrid(buckets), PlotGrid(others)));
}

}  // namespace isthmus::report
