#include "runtime/telemetry/record_json.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <vector>

namespace isthmus {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

nlohmann::ordered_json Scalar(const Message& message, const FieldDescriptor& field) {
  const auto& reflection = *message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      return reflection.GetString(message, &field);
    case FieldDescriptor::CPPTYPE_INT32:
      return reflection.GetInt32(message, &field);
    case FieldDescriptor::CPPTYPE_INT64:
      return reflection.GetInt64(message, &field);
    default:
      return reflection.GetDouble(message, &field);
  }
}

nlohmann::ordered_json HistogramJson(const proto::Histogram& histogram) {
  nlohmann::ordered_json json;
  json["bounds"] = std::vector<double>(histogram.bounds().begin(), histogram.bounds().end());
  json["counts"] = std::vector<int64_t>(histogram.counts().begin(), histogram.counts().end());
  if (histogram.has_sum()) json["sum"] = histogram.sum();
  return json;
}

void AddFields(const Message& message, const std::string& prefix, nlohmann::ordered_json& json) {
  const auto& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const FieldDescriptor* listed : fields) {
    const FieldDescriptor& field = *listed;
    const std::string key = prefix + field.name();
    if (field.is_repeated()) {
      nlohmann::ordered_json list = nlohmann::ordered_json::array();
      for (int k = 0; k < reflection.FieldSize(message, &field); ++k) {
        nlohmann::ordered_json element;
        AddFields(reflection.GetRepeatedMessage(message, &field, k), "", element);
        list.push_back(std::move(element));
      }
      json[key] = std::move(list);
    } else if (field.message_type() == proto::Histogram::descriptor()) {
      json[key] = HistogramJson(static_cast<const proto::Histogram&>(reflection.GetMessage(message, &field)));
    } else if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      AddFields(reflection.GetMessage(message, &field), key + "/", json);
    } else {
      json[key] = Scalar(message, field);
    }
  }
}

}  // namespace

std::string RecordJson(const proto::TelemetryRecord& record) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  AddFields(record, "", json);
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace isthmus
