#include "launch/sweep/results_json.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "launch/sweep/provenance.h"
#include "launch/sweep/regressions.h"

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

// A factor that is only known to be at least so large says so.
Json SpeedUpJson(const report::SpeedUp& speed_up) {
  switch (speed_up.kind) {
    case report::SpeedUp::Kind::kFactor:
      return {{"factor", speed_up.factor}, {"cautious_factor", speed_up.cautious_factor}};
    case report::SpeedUp::Kind::kAtLeast:
      return {{"at_least", speed_up.factor}};
    default:
      return nullptr;
  }
}

Json FactorsJson(const ArmFactors& factors) {
  return {{"tokens", SpeedUpJson(factors.tokens)},
          {"seconds", SpeedUpJson(factors.seconds)},
          {"flops", SpeedUpJson(factors.flops)}};
}

Json FigureJson(const FigureResult& figure) {
  Json json = Json::object();
  if (figure.mean.has_value()) json = EstimateJson(*figure.mean);
  if (figure.lone.has_value()) json["value"] = *figure.lone;
  if (figure.difference.has_value()) json["difference"] = EstimateJson(*figure.difference);
  return json;
}

Json RegressionJson(const RegressionResult& regression) {
  Json json = {{"name", regression.name}, {"cell", regression.cell}, {"arms", regression.arms}};
  json["left_out"] = regression.left_out;
  for (const FigureFit& fit : regression.fits) {
    Json line = {{"figure", fit.key}};
    if (fit.line.ok()) {
      line["count"] = fit.line->count;
      line["slope"] = fit.line->slope;
      line["intercept"] = fit.line->intercept;
      line["slope_interval"] = IntervalJson(fit.line->slope_interval);
      line["probability"] = fit.line->probability;
      line["r_squared"] = fit.line->r_squared;
      line["left_out_r_squared"] = fit.line->left_out_r_squared;
    } else {
      line["problem"] = std::string(fit.line.status().message());
    }
    json["fits"].push_back(std::move(line));
  }
  return json;
}

// An interval that was not measured is null.
Json MeasuredJson(const Measured& measured) {
  return {{"value", NumberJson(measured.value)},
          {"interval", {NumberJson(measured.interval.low), NumberJson(measured.interval.high)}}};
}

Json ControlJson(const std::optional<ControlGain>& control) {
  if (!control.has_value()) return nullptr;
  Json json = MeasuredJson(control->gain);
  json["draws"] = control->draws;
  json["one_more_draw"] = {NumberJson(control->one.low), NumberJson(control->one.high)};
  return json;
}

Json CellJson(const proto::SweepConfig& config, const std::vector<std::string>& cell) {
  Json json = Json::object();
  for (size_t i = 0; i < cell.size(); ++i) json[config.axes(static_cast<int>(i)).name()] = cell[i];
  return json;
}

Json DecompositionJson(const proto::SweepConfig& config, const DecompositionResult& result) {
  const PlannedDecomposition& planned = result.planned;
  Json json = {{"name", planned.name}, {"checkpoint", planned.checkpoint}, {"corpus", planned.corpus}};
  if (planned.given.empty()) {
    json["arm"] = planned.arm;
    json["cell"] = CellJson(config, planned.cell);
    json["seed"] = planned.seed;
  }
  if (!result.problem.empty()) json["problem"] = result.problem;
  if (!result.figures.has_value()) return json;
  const DecompositionFigures& figures = *result.figures;
  json["vocabulary"] = figures.vocabulary;
  json["width"] = figures.width;
  json["rank"] = figures.rank;
  json["sequence_length"] = figures.sequence_length;
  json["sequences"] = figures.sequences;
  json["tokens"] = figures.tokens;
  json["resamples"] = figures.resamples;
  json["loss"] = NumberJson(figures.loss);
  json["visible_cosine"] = MeasuredJson(figures.visible_cosine);
  json["isotropic_visible_cosine"] = figures.isotropic_visible_cosine;
  json["alignment_gain"] = MeasuredJson(figures.alignment_gain);
  json["lost_norm_ratio"] = MeasuredJson(figures.lost_norm_ratio);
  json["lost_energy_ratio"] = MeasuredJson(figures.lost_energy_ratio);
  json["random_head_gain"] = ControlJson(figures.random_head);
  json["random_hidden_gain"] = ControlJson(figures.random_hidden);
  json["target_buckets"] = Json::array();
  for (const DecompositionFigures::Bucket& bucket : figures.buckets) {
    json["target_buckets"].push_back({{"bucket", bucket.name},
                                      {"most_frequent_percent", bucket.most_frequent_percent},
                                      {"tokens", bucket.tokens},
                                      {"alignment_gain", MeasuredJson(bucket.alignment_gain)}});
  }
  return json;
}

}  // namespace

std::string ResultsJson(const proto::SweepConfig& config, absl::Span<const ArmResult> results,
                        absl::Span<const DecompositionResult> decompositions) {
  Json json = {{"question", config.question()},
               {"base", config.base()},
               {"baseline", config.baseline()},
               {"confidence", config.confidence()},
               {"arms", Json::array()}};
  for (const ArmResult& result : results) {
    Json arm = {{"arm", result.survey.arm},
                {"cell", CellJson(config, result.survey.cell)},
                {"tunings", Json::array()},
                {"seeds", Json::array()}};
    for (const TunedSetting& setting : result.survey.tunings) arm["tunings"].push_back(TuningJson(setting));
    for (const SeedResult& seed : result.survey.seeds) arm["seeds"].push_back(SeedJson(seed));
    if (result.loss.has_value()) arm["loss"] = EstimateJson(*result.loss);
    if (result.difference.has_value()) arm["difference"] = EstimateJson(*result.difference);
    if (result.factors.has_value()) arm["factors"] = FactorsJson(*result.factors);
    for (size_t i = 0; i < result.figures.size(); ++i) {
      arm["figures"][config.figures(static_cast<int>(i)).key()] = FigureJson(result.figures[i]);
    }
    arm["not_tuned"] = result.not_tuned;
    arm["missing"] = result.missing;
    arm["problems"] = result.survey.problems;
    json["arms"].push_back(std::move(arm));
  }
  for (const RegressionResult& regression : RegressionsOf(config, results)) {
    json["regressions"].push_back(RegressionJson(regression));
  }
  for (const DecompositionResult& decomposition : decompositions) {
    json["decompositions"].push_back(DecompositionJson(config, decomposition));
  }
  const Provenance provenance = ProvenanceOf(results);
  json["commits"] = provenance.commits;
  json["machines"] = provenance.machines;
  json["data"] = provenance.data;
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace isthmus::sweep
