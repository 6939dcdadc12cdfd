#include "launch/sweep/cell_section.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>

#include <utility>
#include <vector>

#include "launch/report/html.h"
#include "launch/report/plot.h"
#include "launch/report/sections.h"
#include "launch/report/series.h"
#include "launch/sweep/arm_runs.h"

namespace isthmus::sweep {
namespace {

using report::Escape;
using report::Plot;
using report::PlotLine;
using Curve = std::vector<report::SeriesPoint>;

// The arms of one combination of the axes' values.
struct SweepCell {
  absl::Span<const ArmResult> arms;
  const ArmResult* baseline = nullptr;
  std::string caption;  // HTML of every plot: where the runs ran
};

std::string IntervalText(const Interval& interval) {
  return absl::StrFormat("%+.4f to %+.4f", interval.low, interval.high);
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

// Returns a difference with its interval; in bold if that excludes zero.
std::string DifferenceCell(const Estimate& difference) {
  const std::string text =
      absl::StrFormat("%+.3g (%+.3g to %+.3g)", difference.mean, difference.student.low, difference.student.high);
  return difference.student.Excludes(0) ? absl::StrCat("<b>", text, "</b>") : text;
}

std::string FactorCell(const ArmResult& arm, const report::SpeedUp ArmFactors::*factor) {
  return arm.factors.has_value() ? report::SpeedUpText((*arm.factors).*factor) : "1×";
}

std::string ArmsTable(const SweepCell& cell, double confidence) {
  const std::string percent = absl::StrFormat("%g %%", 100 * confidence);
  report::Table table{.caption = "A row for each arm; differences to the baseline, seed by seed",
                      .header = {"Arm", "settings", "loss, nats", "seeds", "difference", percent + " interval",
                                 "of resamples", "by chance"}};
  const ArmResult* worst = WorstOf(cell.arms);
  if (worst != nullptr) {
    for (const char* what : {"tokens", "time", "FLOPs"}) {
      table.header.push_back(absl::StrCat(what, " to ", Escape(worst->survey.arm), "’s loss"));
    }
  }
  for (const ArmResult& arm : cell.arms) {
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
    if (worst != nullptr) {
      for (const auto factor : {&ArmFactors::tokens, &ArmFactors::seconds, &ArmFactors::flops}) {
        row.push_back(FactorCell(arm, factor));
      }
    }
    table.rows.push_back(std::move(row));
  }
  return absl::StrCat("<div class=\"dense\">\n", TableHtml(table), "</div>\n");
}

std::string Problems(const SweepCell& cell) {
  std::string html;
  for (const ArmResult& arm : cell.arms) {
    for (const std::string& problem : arm.survey.problems) {
      absl::StrAppend(&html, "<p class=\"warning\">", Escape(problem), "</p>\n");
    }
  }
  return html;
}

// Adds the curves of an arm: the mean over its seeds as a line, each seed faintly behind it.
void AddCurves(const SweepCell& cell, size_t arm, bool against_time, const std::vector<Curve>& seeds, Plot& plot) {
  const int style = static_cast<int>(arm) % report::kStyles;
  for (const Curve& seed : seeds) {
    plot.lines.push_back(
        {.style = style, .kind = PlotLine::Kind::kBackground, .points = report::DrawnPoints(seed, against_time)});
  }
  plot.lines.push_back({.name = cell.arms[arm].survey.arm,
                        .style = style,
                        .points = report::DrawnPoints(MeanCurve(seeds), against_time)});
}

enum class CurveAxis { kTokens, kSeconds, kFlops };

std::string LossPlot(const SweepCell& cell, CurveAxis axis) {
  const char* const names[] = {"tokens", "time", "floating-point operations"};
  const char* name = names[static_cast<int>(axis)];
  Plot plot{.title = absl::StrCat("Validation loss against ", name),
            .x_title = name,
            .y_title = "nats per token",
            .note = absl::StrCat("Lines are means over seeds. Behind them are the seeds. ", cell.caption),
            .x_unit = axis == CurveAxis::kSeconds ? report::Unit::kSeconds : report::Unit::kCount,
            .y_logarithmic_above = 1.5,
            .lines = {}};
  for (size_t i = 0; i < cell.arms.size(); ++i) {
    std::vector<Curve> seeds = cell.arms[i].runs.losses;
    if (axis == CurveAxis::kFlops) {
      for (Curve& seed : seeds) seed = AgainstFlops(seed, cell.arms[i].runs.flops_per_token);
    }
    AddCurves(cell, i, axis == CurveAxis::kSeconds, seeds, plot);
  }
  return PlotHtml(plot);
}

std::string FigurePlot(const SweepCell& cell, const proto::SweepFigure& figure, size_t index) {
  Plot plot{.title = FigureTitle(figure),
            .x_title = "tokens",
            .y_title = figure.key(),
            .note = absl::StrCat("Lines are means over seeds. Behind them are the seeds. ", cell.caption),
            .x_unit = report::Unit::kCount,
            .y_logarithmic_above = 20,
            .lines = {}};
  for (size_t i = 0; i < cell.arms.size(); ++i) {
    AddCurves(cell, i, false, cell.arms[i].runs.figures[index].curves, plot);
  }
  return PlotHtml(plot);
}

// Shows how the factor to the worst arm's loss moves with the loss at which it is taken.
std::string FactorPlot(const SweepCell& cell) {
  const ArmResult* worst = WorstOf(cell.arms);
  if (worst == nullptr) return "";
  Plot plot{.title = absl::StrCat("Factor of tokens over ", worst->survey.arm, ", by the loss at which it is taken"),
            .x_title = "loss, nats",
            .y_title = "times fewer tokens",
            .note = absl::StrCat("By the curves’ means. ", cell.caption),
            .x_unit = report::Unit::kNumber,
            .x_from_zero = false,
            .last_values = false,
            .x_logarithmic_above = 1.5,
            .y_logarithmic_above = 4,
            .lines = {}};
  for (size_t i = 0; i < cell.arms.size(); ++i) {
    if (&cell.arms[i] == worst) continue;
    plot.lines.push_back({.name = cell.arms[i].survey.arm,
                          .style = static_cast<int>(i) % report::kStyles,
                          .kind = PlotLine::Kind::kMarkers,
                          .points = FactorsByLoss(worst->runs, cell.arms[i].runs)});
  }
  return PlotHtml(plot);
}

// Losses of the values that one setting was tried with.
std::string TuningPlot(const SweepCell& cell, const std::string& setting) {
  Plot plot{.title = absl::StrCat("Tuning of ", setting),
            .x_title = setting,
            .y_title = "nats per token",
            .note = absl::StrCat("Values at which a run diverged have no point. ", cell.caption),
            .x_unit = report::Unit::kNumber,
            .x_from_zero = false,
            .last_values = false,
            .x_logarithmic_above = 1.5,
            .y_logarithmic_above = 1.5,
            .lines = {}};
  for (size_t i = 0; i < cell.arms.size(); ++i) {
    PlotLine line{.name = cell.arms[i].survey.arm,
                  .style = static_cast<int>(i) % report::kStyles,
                  .kind = PlotLine::Kind::kMarkers};
    for (const TunedSetting& tuned : cell.arms[i].survey.tunings) {
      if (tuned.name != setting) continue;
      for (const RatedLoss& value : tuned.values) {
        if (report::IsPlottable(value.loss)) line.points.emplace_back(value.rate, value.loss);
      }
    }
    plot.lines.push_back(std::move(line));
  }
  return PlotHtml(plot);
}

std::string FiguresTable(const proto::SweepConfig& config, const SweepCell& cell) {
  if (config.figures().empty()) return "";
  report::Table table{.caption = "Figures at the end of the runs, and their differences to the baseline, seed by seed",
                      .header = {"Arm"}};
  for (const proto::SweepFigure& figure : config.figures()) {
    table.header.insert(table.header.end(), {Escape(FigureTitle(figure)), "difference"});
  }
  for (const ArmResult& arm : cell.arms) {
    std::vector<std::string> row = {Escape(arm.survey.arm)};
    for (const FigureResult& figure : arm.figures) {
      row.push_back(figure.mean.has_value()   ? absl::StrFormat("%.4g ± %.2g", figure.mean->mean,
                                                                figure.mean->student.high - figure.mean->mean)
                    : figure.lone.has_value() ? absl::StrFormat("%.4g", *figure.lone)
                                              : "–");
      row.push_back(figure.difference.has_value() ? DifferenceCell(*figure.difference) : "–");
    }
    table.rows.push_back(std::move(row));
  }
  return absl::StrCat("<div class=\"dense\">\n", TableHtml(table), "</div>\n");
}

}  // namespace

std::string CellSection(const proto::SweepConfig& config, absl::Span<const ArmResult> arms,
                        const std::string& caption) {
  SweepCell cell{.arms = arms, .caption = Escape(caption)};
  for (const ArmResult& arm : arms) {
    if (arm.survey.arm == config.baseline()) cell.baseline = &arm;
  }
  std::string plots = absl::StrCat(LossPlot(cell, CurveAxis::kTokens), LossPlot(cell, CurveAxis::kSeconds),
                                   LossPlot(cell, CurveAxis::kFlops), FactorPlot(cell));
  for (int i = 0; i < config.figures_size(); ++i) {
    if (!config.figures(i).curve()) continue;
    absl::StrAppend(&plots, FigurePlot(cell, config.figures(i), static_cast<size_t>(i)));
  }
  for (const proto::SweepTuning& tuning : config.tunings()) absl::StrAppend(&plots, TuningPlot(cell, tuning.name()));
  const std::string title = CellText(config, arms[0].survey);
  return report::SectionHtml(title.empty() ? "Arms" : title,
                             absl::StrCat(Problems(cell), ArmsTable(cell, config.confidence()),
                                          FiguresTable(config, cell), report::PlotGrid(plots)));
}

}  // namespace isthmus::sweep
