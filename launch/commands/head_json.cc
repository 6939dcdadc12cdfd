#include "launch/commands/head_json.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/measure/frequency_buckets.h"
#include "proto/telemetry.pb.h"

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

}  // namespace

std::string HeadJson(const HeadFigures& m) {
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
