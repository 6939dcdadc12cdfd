#include "runtime/telemetry/figures.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/strip.h>
#include <google/protobuf/message.h>

#include <algorithm>
#include <iterator>

namespace isthmus {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

bool IsLabel(const FieldDescriptor& field) {
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) return false;
  static constexpr const char* kLabels[] = {"rank", "tp_rank", "dp_rank", "layer", "phase", "bucket", "group", "part"};
  return std::any_of(std::begin(kLabels), std::end(kLabels), [&](const char* name) { return field.name() == name; });
}

std::string Text(const Message& message, const FieldDescriptor& field) {
  const auto& reflection = *message.GetReflection();
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_STRING) return reflection.GetString(message, &field);
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_INT32) return absl::StrCat(reflection.GetInt32(message, &field));
  return absl::StrCat(reflection.GetInt64(message, &field));
}

// The beginning of the names of a message's figures, and their labels.
struct Place {
  std::string tag, metric;
  std::vector<std::pair<std::string, std::string>> labels;
};

class Walk {
 public:
  explicit Walk(absl::FunctionRef<void(const Figure&)> visit) : visit_(visit) {}

  void Fields(const Message& message, Place place) {
    const auto& reflection = *message.GetReflection();
    std::vector<const FieldDescriptor*> fields;
    reflection.ListFields(message, &fields);
    for (const FieldDescriptor* field : fields) {
      if (IsLabel(*field)) place.labels.emplace_back(field->name(), Text(message, *field));
    }
    for (const FieldDescriptor* field : fields) {
      if (IsLabel(*field)) continue;
      const bool is_message = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
      if (is_message && field->is_repeated()) {
        List(message, *field, place);
      } else if (is_message && field->message_type() != proto::Histogram::descriptor()) {
        Fields(reflection.GetMessage(message, field), {absl::StrCat(place.tag, field->name(), "/"),
                                                       absl::StrCat(place.metric, field->name(), "_"), place.labels});
      } else if (!field->is_repeated()) {
        Scalar(message, *field, place);
      }
    }
  }

 private:
  void List(const Message& message, const FieldDescriptor& field, const Place& place) {
    const auto& reflection = *message.GetReflection();
    const std::string one(absl::StripSuffix(field.name(), "s"));
    for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
      const Message& element = reflection.GetRepeatedMessage(message, &field, i);
      std::string tag = absl::StrCat(place.tag, field.name(), "/");
      bool labelled = false;
      for (int k = 0; k < element.GetDescriptor()->field_count(); ++k) {
        const FieldDescriptor& label = *element.GetDescriptor()->field(k);
        if (!IsLabel(label)) continue;
        absl::StrAppend(&tag, Text(element, label), "/");
        labelled = true;
      }
      if (labelled) Fields(element, {tag, absl::StrCat(place.metric, one, "_"), place.labels});
    }
  }

  void Scalar(const Message& message, const FieldDescriptor& field, const Place& place) {
    const auto& reflection = *message.GetReflection();
    Figure figure{place.tag + field.name(), place.metric + field.name(), place.labels, &field, 0.0};
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_MESSAGE:
        figure.value = static_cast<const proto::Histogram*>(&reflection.GetMessage(message, &field));
        break;
      case FieldDescriptor::CPPTYPE_STRING:
        figure.value = reflection.GetString(message, &field);
        break;
      case FieldDescriptor::CPPTYPE_INT32:
        figure.value = static_cast<double>(reflection.GetInt32(message, &field));
        break;
      case FieldDescriptor::CPPTYPE_INT64:
        figure.value = static_cast<double>(reflection.GetInt64(message, &field));
        break;
      default:
        figure.value = reflection.GetDouble(message, &field);
    }
    visit_(figure);
  }

  absl::FunctionRef<void(const Figure&)> visit_;
};

}  // namespace

void ForEachFigure(const proto::TelemetryRecord& record, absl::FunctionRef<void(const Figure&)> visit) {
  Walk(visit).Fields(record, {});
}

}  // namespace isthmus
