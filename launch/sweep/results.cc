#include "launch/sweep/results.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

namespace isthmus::sweep {
namespace {

using Json = nlohmann::ordered_json;

// JSON has no infinity: a loss that diverged is null.
Json NumberJson(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

Json IntervalJson(const Interval& interval) { return {interval.low, interval.high}; }

Json EstimateJson(const Estimate& estimate) {
  return {{"count", estimate.count},
          {"mean", estimate.mean},
          {"deviation", estimate.deviation},
          {"student_interval", IntervalJson(estimate.student)},
          {"bootstrap_interval", IntervalJson(estimate.bootstrap)},
          {"probability", estimate.probability}};
}

Json TuningJson(const TunedSetting& setting) {
  Json json = {{"name", setting.name}, {"values", Json::array()}};
  for (const RatedLoss& value : setting.values) {
    json["values"].push_back({{"value", value.rate}, {"loss", NumberJson(value.loss)}});
  }
  if (setting.best.has_value()) {
    json["best"] = {{"value", setting.best->rate},
                    {"loss", setting.best->loss},
                    {"inside", setting.best->inside},
                    {"parabola_value", setting.best->parabola_rate},
                    {"parabola_loss", setting.best->parabola_loss}};
  }
  return json;
}

Json SeedJson(const SeedResult& seed) {
  Json json = {{"seed", seed.seed}, {"run", seed.run}};
  if (!seed.result.has_value()) return json;
  switch (seed.result->end) {
    case RunResult::End::kFinished:
      json["loss"] = seed.result->loss;
      break;
    case RunResult::End::kDiverged:
      json["diverged"] = seed.result->reason;
      break;
    case RunResult::End::kFailed:
      json["failed"] = seed.result->reason;
      break;
  }
  return json;
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

std::string LossText(const ArmResult& arm) {
  if (arm.loss.has_value()) {
    return absl::StrFormat("%.4f ± %.4f", arm.loss->mean, arm.loss->student.high - arm.loss->mean);
  }
  return arm.lone_loss.has_value() ? absl::StrFormat("%.4f", *arm.lone_loss) : "–";
}

std::vector<ArmResult> ResultsOf(const proto::SweepConfig& config, std::vector<ArmSurvey> arms) {
  std::vector<ArmResult> results;
  for (const ArmSurvey& arm : arms) {
    ArmResult result{.survey = arm};
    std::vector<double> losses;
    for (const SeedResult& seed : arm.seeds) {
      if (seed.result.has_value() && seed.result->end == RunResult::End::kFinished) losses.push_back(seed.result->loss);
    }
    if (const auto loss = EstimateMean(losses, config.confidence()); loss.ok()) result.loss = *loss;
    if (losses.size() == 1) result.lone_loss = losses[0];
    for (const TunedSetting& setting : arm.tunings) {
      if (setting.best.has_value() && !setting.best->inside) result.not_tuned.push_back(setting.name);
    }
    for (const ArmSurvey& other : arms) {
      if (other.cell != arm.cell || other.arm != config.baseline() || arm.arm == config.baseline()) continue;
      const auto difference = CompareArms(arm, other, config.confidence(), result.missing);
      if (difference.ok()) result.difference = *difference;
    }
    results.push_back(std::move(result));
  }
  return results;
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

std::string ResultsJson(const proto::SweepConfig& config, absl::Span<const ArmResult> results) {
  Json json = {{"question", config.question()},
               {"base", config.base()},
               {"baseline", config.baseline()},
               {"confidence", config.confidence()},
               {"arms", Json::array()}};
  for (const ArmResult& result : results) {
    Json arm = {
        {"arm", result.survey.arm}, {"cell", Json::object()}, {"tunings", Json::array()}, {"seeds", Json::array()}};
    for (size_t i = 0; i < result.survey.cell.size(); ++i) {
      arm["cell"][config.axes(static_cast<int>(i)).name()] = result.survey.cell[i];
    }
    for (const TunedSetting& setting : result.survey.tunings) arm["tunings"].push_back(TuningJson(setting));
    for (const SeedResult& seed : result.survey.seeds) arm["seeds"].push_back(SeedJson(seed));
    if (result.loss.has_value()) arm["loss"] = EstimateJson(*result.loss);
    if (result.difference.has_value()) arm["difference"] = EstimateJson(*result.difference);
    arm["not_tuned"] = result.not_tuned;
    arm["missing"] = result.missing;
    arm["problems"] = result.survey.problems;
    json["arms"].push_back(std::move(arm));
  }
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace isthmus::sweep
