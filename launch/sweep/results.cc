#include "launch/sweep/results.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace isthmus::sweep {
namespace {

// Takes one figure of an arm, and of the baseline where the arm has one.
FigureResult FigureOf(const FigureRuns& own, const FigureRuns* baseline, double confidence) {
  FigureResult figure;
  std::vector<double> values, first, second;
  for (size_t seed = 0; seed < own.last.size(); ++seed) {
    if (!std::isfinite(own.last[seed])) continue;
    values.push_back(own.last[seed]);
    if (baseline == nullptr || seed >= baseline->last.size() || !std::isfinite(baseline->last[seed])) continue;
    first.push_back(own.last[seed]);
    second.push_back(baseline->last[seed]);
  }
  if (const auto mean = EstimateMean(values, confidence); mean.ok()) figure.mean = *mean;
  if (values.size() == 1) figure.lone = values[0];
  if (const auto difference = EstimateDifference(first, second, confidence); difference.ok()) {
    figure.difference = *difference;
  }
  return figure;
}

// Compares the arms of one combination with its baseline and with its worst arm.
void CompareCell(const proto::SweepConfig& config, absl::Span<ArmResult> cell) {
  const auto found =
      std::find_if(cell.begin(), cell.end(), [&](const ArmResult& arm) { return arm.survey.arm == config.baseline(); });
  const ArmResult* worst = WorstOf(cell);
  for (ArmResult& arm : cell) {
    const ArmResult* baseline = found == cell.end() || &arm == &*found ? nullptr : &*found;
    for (size_t i = 0; i < arm.runs.figures.size(); ++i) {
      const FigureRuns* other = baseline == nullptr ? nullptr : &baseline->runs.figures[i];
      arm.figures.push_back(FigureOf(arm.runs.figures[i], other, config.confidence()));
    }
    if (worst != nullptr && &arm != worst) arm.factors = FactorsOver(worst->runs, arm.runs);
    if (baseline == nullptr) continue;
    const auto difference = CompareArms(arm.survey, baseline->survey, config.confidence(), arm.missing);
    if (difference.ok()) arm.difference = *difference;
  }
}

std::string DifferenceText(const ArmResult& arm, double confidence) {
  if (!arm.difference.has_value()) return "";
  const Interval& interval = arm.difference->student;
  return absl::StrFormat("  %+.4f, %g %% interval %+.4f to %+.4f, %d seeds%s", arm.difference->mean, 100 * confidence,
                         interval.low, interval.high, arm.difference->count,
                         interval.Excludes(0) ? "" : ": no difference shown");
}

std::string SettingsText(const ArmSurvey& arm) {
  std::vector<std::string> parts;
  for (const TunedSetting& setting : arm.tunings) {
    if (setting.best.has_value()) parts.push_back(absl::StrCat(setting.name, " ", setting.best->rate));
  }
  return parts.empty() ? "" : absl::StrCat("  at ", absl::StrJoin(parts, ", "));
}

}  // namespace

std::string CellText(const proto::SweepConfig& config, const ArmSurvey& arm) {
  std::vector<std::string> parts;
  for (size_t i = 0; i < arm.cell.size(); ++i) {
    parts.push_back(absl::StrCat(config.axes(static_cast<int>(i)).name(), " ", arm.cell[i]));
  }
  return absl::StrJoin(parts, ", ");
}

std::string FigureTitle(const proto::SweepFigure& figure) {
  return figure.title().empty() ? figure.key() : figure.title();
}

std::string LossText(const ArmResult& arm) {
  if (arm.loss.has_value()) {
    return absl::StrFormat("%.4f ± %.4f", arm.loss->mean, arm.loss->student.high - arm.loss->mean);
  }
  return arm.lone_loss.has_value() ? absl::StrFormat("%.4f", *arm.lone_loss) : "–";
}

double FigureResult::value() const {
  return mean.has_value() ? mean->mean : lone.value_or(std::numeric_limits<double>::quiet_NaN());
}

std::vector<ArmResult> ResultsOf(const proto::SweepConfig& config, std::vector<ArmSurvey> arms) {
  std::vector<ArmResult> results;
  for (ArmSurvey& arm : arms) {
    ArmResult result{.survey = std::move(arm)};
    result.runs = ReadArmRuns(config, result.survey);
    std::vector<double> losses;
    for (const SeedResult& seed : result.survey.seeds) {
      if (seed.result.has_value() && seed.result->end == RunResult::End::kFinished) losses.push_back(seed.result->loss);
    }
    if (const auto loss = EstimateMean(losses, config.confidence()); loss.ok()) result.loss = *loss;
    if (losses.size() == 1) result.lone_loss = losses[0];
    for (const TunedSetting& setting : result.survey.tunings) {
      if (setting.best.has_value() && !setting.best->inside) result.not_tuned.push_back(setting.name);
    }
    results.push_back(std::move(result));
  }
  for (const auto& cell : CellsOf(results)) {
    const auto begin = static_cast<size_t>(cell.data() - results.data());
    CompareCell(config, absl::MakeSpan(results).subspan(begin, cell.size()));
  }
  return results;
}

std::vector<absl::Span<const ArmResult>> CellsOf(absl::Span<const ArmResult> results) {
  std::vector<absl::Span<const ArmResult>> cells;
  for (size_t begin = 0, end = 0; begin < results.size(); begin = end) {
    while (end < results.size() && results[end].survey.cell == results[begin].survey.cell) ++end;
    cells.push_back(results.subspan(begin, end - begin));
  }
  return cells;
}

const ArmResult* WorstOf(absl::Span<const ArmResult> cell) {
  const ArmResult* worst = nullptr;
  for (const ArmResult& arm : cell) {
    const auto& mean = arm.runs.mean;
    if (!mean.empty() && (worst == nullptr || mean.back().value > worst->runs.mean.back().value)) worst = &arm;
  }
  return worst;
}

std::string ResultsText(const proto::SweepConfig& config, absl::Span<const ArmResult> results) {
  std::string text;
  std::string cell;
  for (const ArmResult& arm : results) {
    if (const std::string own = CellText(config, arm.survey); own != cell) {
      cell = own;
      absl::StrAppend(&text, cell, ":\n");
    }
    absl::StrAppend(&text, absl::StrFormat("%-24s %s", arm.survey.arm, LossText(arm)), SettingsText(arm.survey),
                    DifferenceText(arm, config.confidence()), "\n");
    for (const std::string& setting : arm.not_tuned) {
      absl::StrAppend(&text, "  not tuned: the best ", setting, " is an end of its values\n");
    }
    for (const std::string& problem : arm.survey.problems) absl::StrAppend(&text, "  ", problem, "\n");
    for (const std::string& run : arm.missing) absl::StrAppend(&text, "  left out of the difference: ", run, "\n");
  }
  return text;
}

}  // namespace isthmus::sweep
