#include "launch/commands/head_json.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "model/measure/equal_norm_steps.h"
#include "model/measure/frequency_buckets.h"
#include "proto/telemetry.pb.h"

namespace isthmus {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kBeyondRange[] = "beyond the range of float64, or a mean over fewer than two rows that are not zero";

Json PartJson(const HeadPart& part) {
  return {{"rows", part.rows},
          {"logit_gradient_energy", part.logit_gradient_energy},
          {"retained_energy", part.retained_energy}};
}

Json HistogramJson(const Histogram& histogram) {
  return {{"bounds", histogram.bounds}, {"counts", histogram.counts}, {"sum", histogram.sum}};
}

// Adds the names of all numbers below `json` that are not finite, which JSON can't express.
void AddMissing(const Json& json, const std::string& name, std::vector<std::string>& names) {
  if (json.is_structured()) {
    for (const auto& [key, value] : json.items()) {
      AddMissing(value, name.empty() ? key : absl::StrCat(name, ".", key), names);
    }
  } else if (json.is_number_float() && !std::isfinite(json.get<double>())) {
    names.push_back(name);
  }
}

// Returns the figures that are one number, in the order and by the names that proto/telemetry.proto gives them. Absent
// ones become NaN, so that AddMissing names them. Steps belong to training and are left out.
Json ScalarsJson(const proto::HeadRecord& scalars) {
  Json json;
  const auto& descriptor = *proto::HeadRecord::descriptor();
  const auto& reflection = *proto::HeadRecord::GetReflection();
  for (int i = 0; i < descriptor.field_count(); ++i) {
    const auto* field = descriptor.field(i);
    if (field->is_repeated() || field->message_type() != nullptr || absl::EndsWith(field->name(), "_step")) continue;
    Json& value = json[field->has_json_name() ? field->json_name() : field->name()];
    if (!reflection.HasField(scalars, field)) {
      value = std::numeric_limits<double>::quiet_NaN();
    } else if (field->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_INT64) {
      value = reflection.GetInt64(scalars, field);
    } else {
      value = reflection.GetDouble(scalars, field);
    }
  }
  return json;
}

// The names of figures that are null, and why they are.
using AbsentFigures = std::vector<std::pair<std::vector<std::string>, std::string>>;

// Returns the losses after steps of equal norm. A direction that was not measured is null, and added to `missing`.
Json StepsJson(const EqualNormSteps& steps, AbsentFigures& missing) {
  Json json = {{"tokens", steps.tokens}, {"sizes", kStepSizes}, {"loss_before", steps.loss_before}};
  for (size_t i = 0; i < steps.along.size(); ++i) {
    const EqualNormSteps::Along& along = steps.along[i];
    Json& direction = json[kStepDirectionNames[i]];
    if (!along.not_measured.empty()) {
      const std::string name = absl::StrCat("equal_norm_steps.", kStepDirectionNames[i]);
      const bool same = !missing.empty() && missing.back().second == along.not_measured;
      if (!same) missing.push_back({{}, along.not_measured});
      missing.back().first.push_back(name);
      continue;
    }
    constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
    const std::optional<size_t> best = along.Best();
    direction = {{"losses", along.losses},
                 {"best_loss", best.has_value() ? along.losses[*best] : kNone},
                 {"best_size", best.has_value() ? kStepSizes[*best] : kNone}};
  }
  return json;
}

Json FigureIntervalJson(const FigureInterval& interval) {
  return {{"value", interval.value}, {"low", interval.low}, {"high", interval.high}};
}

void AddIntervals(const HeadIntervals::Figures& figures, Json& json) {
  json["lost_norm_ratio"] = FigureIntervalJson(figures.lost_norm_ratio);
  json["visible_cosine"] = FigureIntervalJson(figures.visible_cosine);
  json["alignment_gain"] = FigureIntervalJson(figures.alignment_gain);
  json["lost_energy_ratio"] = FigureIntervalJson(figures.lost_energy_ratio);
}

// A bucket that no target is in has no figures.
Json BootstrapJson(const HeadIntervals& intervals) {
  Json json = {{"resamples", intervals.resamples},
               {"confidence", kConfidence},
               {"blocks", intervals.blocks},
               {"block_tokens", intervals.block_tokens}};
  AddIntervals(intervals.all, json);
  Json& buckets = json["target_buckets"] = Json::array();
  for (size_t i = 0; i < intervals.target_buckets.size(); ++i) {
    const HeadIntervals::Figures& figures = intervals.target_buckets[i];
    Json& bucket = buckets.emplace_back(Json{{"bucket", kBucketNames[i]},
                                             {"most_frequent_percent", kBucketPercent[i]},
                                             {"tokens", figures.tokens},
                                             {"resamples", figures.resamples}});
    if (figures.tokens > 0) AddIntervals(figures, bucket);
  }
  return json;
}

Json SpreadJson(const HeadControls::Spread& spread) { return {{"mean", spread.mean}, {"deviation", spread.deviation}}; }

// The number of deviations is null if draws are alike, and added to `missing`.
Json ControlJson(const HeadControls::Control& control, const std::string& name, AbsentFigures& missing) {
  Json json = {
      {"visible_cosine", SpreadJson(control.visible_cosine)}, {"lost_norm_ratio", SpreadJson(control.lost_norm_ratio)},
      {"alignment_gain", SpreadJson(control.alignment_gain)}, {"draws_below", control.draws_below},
      {"deviations_above", control.deviations_above},         {"visible_cosines", control.visible_cosines}};
  if (std::isnan(control.deviations_above) && std::isfinite(control.visible_cosine.deviation)) {
    json["deviations_above"] = nullptr;
    missing.push_back({{absl::StrCat("controls.", name, ".deviations_above")}, "all draws are alike"});
  }
  return json;
}

Json ControlsJson(const HeadControls& controls, AbsentFigures& missing) {
  return {{"draws", controls.draws},
          {"isotropic_visible_cosine", controls.isotropic_visible_cosine},
          {"isotropic_lost_norm_ratio", controls.isotropic_lost_norm_ratio},
          {"random_head", ControlJson(controls.random_head, "random_head", missing)},
          {"random_hidden", ControlJson(controls.random_hidden, "random_hidden", missing)}};
}

// A share of no gradient is null.
Json SharesJson(const VisibleShares& shares) {
  return {{"tokens", shares.tokens},
          {"logit_cosine", shares.logits.cosine()},
          {"log_probability_cosine", shares.log_probabilities.cosine()}};
}

}  // namespace

std::string HeadJson(const HeadFigures& m) {
  const Json visible = m.visible.has_value() ? SharesJson(*m.visible) : Json();
  if (!m.linear) return Json({{"not_measured", m.not_measured}, {"visible_share", visible}}).dump(1) + "\n";
  Json json = {{"tokens", m.tokens}, {"vocabulary", m.vocabulary}, {"width", m.width}, {"loss", m.loss}};
  json.update(ScalarsJson(m.scalars));
  Json shards = Json::array(), buckets = Json::array();
  for (const HeadPart& shard : m.shards) shards.push_back(PartJson(shard));
  for (size_t i = 0; i < m.buckets.size(); ++i) {
    Json bucket = {{"bucket", kBucketNames[i]}, {"most_frequent_percent", kBucketPercent[i]}};
    bucket.update(PartJson(m.buckets[i]));
    buckets.push_back(std::move(bucket));
  }
  json["shards"] = std::move(shards);
  json["buckets"] = std::move(buckets);
  json["retained_ratio_histogram"] = HistogramJson(m.retained_ratio);
  json["token_gradient_histogram"] = HistogramJson(m.token_gradient);
  json["head_singular_values"] = m.singular_values;
  json["sampled_singular_values"] = m.sampled_singular_values;
  if (m.visible.has_value()) json["visible_share"] = visible;
  AbsentFigures missing;
  if (m.equal_norm_steps.has_value()) json["equal_norm_steps"] = StepsJson(*m.equal_norm_steps, missing);
  if (m.intervals.has_value()) json["bootstrap"] = BootstrapJson(*m.intervals);
  if (m.controls.has_value()) json["controls"] = ControlsJson(*m.controls, missing);
  std::vector<std::string> names;
  AddMissing(json, "", names);
  if (!names.empty()) {
    missing.insert(missing.begin(), {std::move(names), m.not_measured.empty() ? kBeyondRange : m.not_measured});
  }
  if (!missing.empty()) {
    json["not_measured"] = absl::StrJoin(missing, "; ", [](std::string* out, const auto& entry) {
      absl::StrAppend(out, absl::StrJoin(entry.first, ", "), ": ", entry.second);
    });
  }
  return json.dump(1) + "\n";
}

}  // namespace isthmus
