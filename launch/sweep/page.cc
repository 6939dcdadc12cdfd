#include "launch/sweep/page.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "launch/report/html.h"
#include "launch/report/page.h"
#include "launch/report/plot.h"
#include "launch/report/sections.h"
#include "launch/sweep/arm_curves.h"
#include "runtime/version.h"

namespace isthmus::sweep {
namespace {

using report::Escape;
using report::Plot;
using report::PlotLine;

// The arms of one combination of the axes' values.
struct SweepCell {
  std::string title;  // "V 1024, D 16", empty without axes
  std::vector<const ArmResult*> arms;
  const ArmResult* baseline = nullptr;
  std::vector<ArmCurves> curves;
};

std::vector<SweepCell> CellsOf(const proto::SweepConfig& config, absl::Span<const ArmResult> results) {
  std::vector<SweepCell> cells;
  for (const ArmResult& arm : results) {
    if (cells.empty() || cells.back().arms[0]->survey.cell != arm.survey.cell) {
      cells.push_back({.title = CellText(config, arm.survey)});
    }
    SweepCell& cell = cells.back();
    cell.arms.push_back(&arm);
    cell.curves.push_back(CurvesOf(arm, config.folder()));
    if (arm.survey.arm == config.baseline()) cell.baseline = &arm;
  }
  return cells;
}

std::string IntervalText(const Interval& interval) {
  return absl::StrFormat("%+.4f to %+.4f", interval.low, interval.high);
}

// Returns the index of the arm that ends with the highest mean loss; -1 if none has a curve.
int WorstOf(const SweepCell& cell) {
  int worst = -1;
  for (size_t i = 0; i < cell.curves.size(); ++i) {
    const auto& mean = cell.curves[i].mean;
    if (mean.empty()) continue;
    if (worst < 0 || mean.back().value > cell.curves[static_cast<size_t>(worst)].mean.back().value) {
      worst = static_cast<int>(i);
    }
  }
  return worst;
}

std::string SettingsCell(const ArmResult& arm) {
  std::vector<std::string> parts;
  for (const TunedSetting& setting : arm.survey.tunings) {
    if (!setting.best.has_value()) continue;
    parts.push_back(absl::StrCat(Escape(setting.name), " ", setting.best->rate,
                                 setting.best->inside ? "" : " <b>(an end: not tuned)</b>"));
  }
  return parts.empty() ? "–" : absl::StrJoin(parts, "<br>");
}

std::string ArmsTable(const SweepCell& cell, double confidence) {
  const std::string percent = absl::StrFormat("%g %%", 100 * confidence);
  report::Table table{.caption = "A row for each arm; differences to the baseline, seed by seed",
                      .header = {"Arm", "settings", "loss, nats", "seeds", "difference", percent + " interval",
                                 "of resamples", "by chance"}};
  const int worst = WorstOf(cell);
  if (worst >= 0) {
    const std::string name = Escape(cell.arms[static_cast<size_t>(worst)]->survey.arm);
    for (const char* what : {"tokens", "time", "FLOPs"}) {
      table.header.push_back(absl::StrCat(what, " to ", name, "’s loss"));
    }
  }
  for (size_t i = 0; i < cell.arms.size(); ++i) {
    const ArmResult& arm = *cell.arms[i];
    std::vector<std::string> row = {absl::StrCat(Escape(arm.survey.arm), &arm == cell.baseline ? " (baseline)" : ""),
                                    SettingsCell(arm), LossText(arm),
                                    absl::StrCat(arm.loss.has_value()        ? arm.loss->count
                                                 : arm.lone_loss.has_value() ? 1
                                                                             : 0)};
    if (arm.difference.has_value()) {
      row.insert(row.end(),
                 {absl::StrFormat("%+.4f", arm.difference->mean), IntervalText(arm.difference->student),
                  IntervalText(arm.difference->bootstrap), absl::StrFormat("%.2g", arm.difference->probability)});
    } else {
      row.insert(row.end(), 4, "–");
    }
    if (worst >= 0) {
      const ArmFactors factors = FactorsOver(cell.curves[static_cast<size_t>(worst)], cell.curves[i]);
      for (const report::SpeedUp* factor : {&factors.tokens, &factors.seconds, &factors.flops}) {
        row.push_back(static_cast<int>(i) == worst ? "1×" : report::SpeedUpText(*factor));
      }
    }
    table.rows.push_back(std::move(row));
  }
  return absl::StrCat("<div class=\"dense\">\n", TableHtml(table), "</div>\n");
}

std::string Findings(const SweepCell& cell, double confidence) {
  std::string html;
  for (const ArmResult* arm : cell.arms) {
    if (arm == cell.baseline || cell.baseline == nullptr) continue;
    absl::StrAppend(&html, "<p class=\"headline\">", Escape(FindingOf(*arm, *cell.baseline, confidence)), "</p>\n");
  }
  for (const ArmResult* arm : cell.arms) {
    for (const std::string& problem : arm->survey.problems) {
      absl::StrAppend(&html, "<p class=\"warning\">", Escape(problem), "</p>\n");
    }
  }
  return html;
}

// Curves of the arms at their settings: the mean over seeds as a line, each seed faintly behind it.
std::string CurvesPlot(const SweepCell& cell, bool against_time) {
  Plot plot{.title = absl::StrCat("Validation loss against ", against_time ? "time" : "tokens"),
            .x_title = against_time ? "time" : "tokens",
            .y_title = "nats per token",
            .note = "Lines are means over seeds. Behind them are the seeds.",
            .x_unit = against_time ? report::Unit::kSeconds : report::Unit::kCount,
            .y_logarithmic_above = 1.5,
            .lines = {}};
  for (size_t i = 0; i < cell.arms.size(); ++i) {
    const int style = static_cast<int>(i) % report::kStyles;
    for (const auto& seed : cell.curves[i].seeds) {
      plot.lines.push_back(
          {.style = style, .kind = PlotLine::Kind::kBackground, .points = report::DrawnPoints(seed, against_time)});
    }
    plot.lines.push_back({.name = cell.arms[i]->survey.arm,
                          .style = style,
                          .points = report::DrawnPoints(cell.curves[i].mean, against_time)});
  }
  return PlotHtml(plot);
}

// Losses of the values that one setting was tried with.
std::string TuningPlot(const SweepCell& cell, const std::string& setting) {
  Plot plot{.title = absl::StrCat("Tuning of ", setting),
            .x_title = setting,
            .y_title = "nats per token",
            .note = "Values at which a run diverged have no point.",
            .x_unit = report::Unit::kNumber,
            .x_from_zero = false,
            .last_values = false,
            .x_logarithmic_above = 1.5,
            .y_logarithmic_above = 1.5,
            .lines = {}};
  for (size_t i = 0; i < cell.arms.size(); ++i) {
    PlotLine line{.name = cell.arms[i]->survey.arm,
                  .style = static_cast<int>(i) % report::kStyles,
                  .kind = PlotLine::Kind::kMarkers};
    for (const TunedSetting& tuned : cell.arms[i]->survey.tunings) {
      if (tuned.name != setting) continue;
      for (const RatedLoss& value : tuned.values) {
        if (report::IsPlottable(value.loss)) line.points.emplace_back(value.rate, value.loss);
      }
    }
    plot.lines.push_back(std::move(line));
  }
  return PlotHtml(plot);
}

std::string CellSection(const proto::SweepConfig& config, const SweepCell& cell) {
  std::string plots = absl::StrCat(CurvesPlot(cell, false), CurvesPlot(cell, true));
  for (const proto::SweepTuning& tuning : config.tunings()) absl::StrAppend(&plots, TuningPlot(cell, tuning.name()));
  return report::SectionHtml(
      cell.title.empty() ? "Arms" : cell.title,
      absl::StrCat(Findings(cell, config.confidence()), ArmsTable(cell, config.confidence()), report::PlotGrid(plots)));
}

constexpr char kNote[] =
    "<p class=\"note\">Losses are validation losses at the end of a run, over the whole vocabulary. ±: Student’s "
    "interval of the mean over seeds. Differences are taken seed by seed; below 0 the arm is better than the baseline. "
    "Of resamples: the percentile interval, too narrow for few seeds. By chance: probability of such a mean difference "
    "by Student’s test. Factors: how many times fewer tokens, less time or fewer operations an arm takes to the loss "
    "at "
    "which the worst arm ends, by the curves’ means; factors grow without bound where curves are flat. An arm is tuned "
    "in a setting if a lower and a higher value are worse.</p>\n";

}  // namespace

std::string FindingOf(const ArmResult& arm, const ArmResult& baseline, double confidence) {
  const std::string pair = absl::StrCat(arm.survey.arm, " against ", baseline.survey.arm, ": ");
  if (!arm.difference.has_value())
    return absl::StrCat(pair, "no difference can be given: too few seeds finished in both.");
  const Estimate& difference = *arm.difference;
  std::string text = absl::StrFormat("%s%+.4f nats, %g %% interval %s over %d seeds: ", pair, difference.mean,
                                     100 * confidence, IntervalText(difference.student), difference.count);
  if (!difference.student.Excludes(0)) {
    absl::StrAppend(&text, "no difference is shown");
  } else {
    absl::StrAppend(&text, arm.survey.arm, difference.mean < 0 ? " is better" : " is worse");
  }
  for (const ArmResult* one : {&arm, &baseline}) {
    if (!one->not_tuned.empty()) {
      absl::StrAppend(&text, ", but ", one->survey.arm, " is not tuned in ", absl::StrJoin(one->not_tuned, ", "));
    }
  }
  if (!arm.missing.empty()) absl::StrAppend(&text, ", without the runs ", absl::StrJoin(arm.missing, ", "));
  return absl::StrCat(text, ".");
}

std::string SweepPageHtml(const proto::SweepConfig& config, absl::Span<const ArmResult> results) {
  std::string sections;
  for (const SweepCell& cell : CellsOf(config, results)) absl::StrAppend(&sections, CellSection(config, cell));
  absl::StrAppend(&sections, report::SectionHtml("How to read this", kNote));
  return report::FramedPage(
      {.title = config.question().empty() ? config.folder() : config.question(),
       .kind = "Isthmus sweep",
       .footer = absl::StrCat("Made by <code>isthmus sweep</code>, version ", kVersion, ", from the runs in <code>",
                              Escape(config.folder()), "</code>, base <code>", Escape(config.base()), "</code>.")},
      sections);
}

}  // namespace isthmus::sweep
