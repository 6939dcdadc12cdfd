#include "launch/commands/head_json.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <vector>

#include "launch/run/head_record.h"
#include "model/measure/frequency_buckets.h"

namespace isthmus {
namespace {

using Json = nlohmann::ordered_json;

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

Json GradientJson(const HeadGradientFigures& g) {
  return {{"logit_gradient_norm", g.logit_gradient_norm},
          {"retained_gradient_norm", g.retained_gradient_norm},
          {"lost_gradient_norm", g.lost_gradient_norm},
          {"visible_cosine", g.visible_cosine},
          {"lost_norm_ratio", g.lost_norm_ratio},
          {"lost_energy_ratio", g.lost_energy_ratio},
          {"isotropic_lost_norm_ratio", g.isotropic_lost_norm_ratio},
          {"alignment_gain", g.alignment_gain},
          {"target_energy_share", g.target_energy_share},
          {"retained_target_energy_share", g.retained_target_energy_share},
          {"target_coefficient", g.target_coefficient},
          {"retained_target_coefficient", g.retained_target_coefficient}};
}

Json WeightJson(const HeadFigures& m) {
  return {{"head_numerical_rank", m.weight.numerical_rank},
          {"head_condition", m.weight.condition},
          {"head_singular_entropy", m.weight.singular_entropy},
          {"head_stable_rank", m.weight.stable_rank},
          {"head_largest_singular_share", m.weight.largest_singular_share},
          {"head_error_ratio_at_eighth", m.weight.error_ratio_at_eighth},
          {"head_error_ratio_at_quarter", m.weight.error_ratio_at_quarter},
          {"head_error_ratio_at_half", m.weight.error_ratio_at_half},
          {"head_row_anisotropy", m.weight.row_anisotropy},
          {"hidden_anisotropy", m.hidden_anisotropy},
          {"hidden_centred_anisotropy", m.hidden_centred_anisotropy}};
}

}  // namespace

std::string HeadJson(const HeadFigures& m) {
  Json json = {{"tokens", m.tokens}, {"vocabulary", m.vocabulary}, {"width", m.width}, {"loss", m.loss}};
  json.update(GradientJson(m.gradient));
  json.update({{"update_cosine", m.update.update_cosine},
               {"hidden_update_cosine", m.update.hidden_update_cosine},
               {"update_rank_bound", m.update.update_rank_bound}});
  const auto components = [&](int64_t count) {
    return m.spectrum.known ? Json(count) : Json(std::numeric_limits<double>::quiet_NaN());
  };
  json.update({{"sampled_tokens", m.spectrum.sampled_tokens},
               {"best_rank_energy_ratio", m.spectrum.best_rank_energy_ratio},
               {"best_double_rank_energy_ratio", m.spectrum.best_double_rank_energy_ratio},
               {"sampled_retained_energy_ratio", m.spectrum.sampled_retained_energy_ratio},
               {"sampled_lost_norm_ratio", m.self_test.sampled_lost_norm_ratio},
               {"decomposition_error", m.self_test.decomposition_error},
               {"components_for_70_percent", components(m.spectrum.components_for_70_percent)},
               {"components_for_99_9_percent", components(m.spectrum.components_for_99_9_percent)}});
  json.update(WeightJson(m));
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
  json["head_singular_values"] = m.weight.singular_values;
  json["sampled_singular_values"] = m.spectrum.singular_values;
  std::vector<std::string> missing;
  AddMissing(json, "", missing);
  if (!missing.empty()) {
    json["not_measured"] = absl::StrCat(
        absl::StrJoin(missing, ", "), ": ",
        m.not_measured.empty() ? "beyond the range of float64, or a mean over fewer than two rows that are not zero"
                               : std::string(m.not_measured));
  }
  return json.dump(1) + "\n";
}

}  // namespace isthmus
