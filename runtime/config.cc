#include "runtime/config.h"

#include <absl/strings/ascii.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/text_format.h>

#include <cmath>
#include <filesystem>
#include <memory>
#include <vector>

#include "runtime/durable_file.h"
#include "runtime/status.h"
#include "runtime/text_format.h"

namespace isthmus {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

std::string FieldNames(const Descriptor& descriptor) {
  std::vector<std::string> names;
  for (int i = 0; i < descriptor.field_count(); ++i) names.push_back(descriptor.field(i)->name());
  return absl::StrJoin(names, ", ");
}

// Sets one scalar, or adds it to a repeated field.
absl::Status SetScalar(Message& message, const FieldDescriptor& field, const std::string& text,
                       const std::string& override) {
  const Reflection& reflection = *message.GetReflection();
  const bool add = field.is_repeated();
  const auto wrong = [&](absl::string_view accepted) {
    return absl::InvalidArgumentError(
        absl::StrCat("--set ", override, ": found \"", text, "\"; ", field.name(), " accepts ", accepted));
  };
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      add ? reflection.AddString(&message, &field, text) : reflection.SetString(&message, &field, text);
      return absl::OkStatus();
    case FieldDescriptor::CPPTYPE_BOOL: {
      bool value = false;
      if (!absl::SimpleAtob(text, &value)) return wrong("true or false");
      reflection.SetBool(&message, &field, value);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_DOUBLE: {
      double value = 0;
      if (!absl::SimpleAtod(text, &value) || !std::isfinite(value)) return wrong("a finite number");
      reflection.SetDouble(&message, &field, value);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_INT32: {
      int32_t value = 0;
      if (!absl::SimpleAtoi(text, &value)) return wrong("a whole number of 32 bits");
      reflection.SetInt32(&message, &field, value);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_INT64: {
      int64_t value = 0;
      if (!absl::SimpleAtoi(text, &value)) return wrong("a whole number of 64 bits");
      add ? reflection.AddInt64(&message, &field, value) : reflection.SetInt64(&message, &field, value);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_UINT64: {
      uint64_t value = 0;
      if (!absl::SimpleAtoi(text, &value)) return wrong("a whole number of 64 bits, not negative");
      reflection.SetUInt64(&message, &field, value);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_ENUM: {
      const auto* value = field.enum_type()->FindValueByName(absl::AsciiStrToUpper(text));
      if (value == nullptr) {
        std::vector<std::string> names;
        for (int i = 0; i < field.enum_type()->value_count(); ++i) {
          names.push_back(field.enum_type()->value(i)->name());
        }
        return wrong(absl::StrJoin(names, ", "));
      }
      reflection.SetEnum(&message, &field, value);
      return absl::OkStatus();
    }
    default:
      return wrong(absl::StrCat("a path to one of its fields: ", FieldNames(*field.message_type())));
  }
}

// Adds a message, given in text format, to a list of messages. An empty text adds nothing.
absl::Status AddMessage(Message& message, const FieldDescriptor& field, const std::string& text,
                        const std::string& override) {
  if (text.empty()) return absl::OkStatus();
  Message& added = *message.GetReflection()->AddMessage(&message, &field);
  const absl::Status parsed = ParseTextFormat(text, absl::StrCat("--set ", override), added);
  if (parsed.ok()) return parsed;
  return absl::InvalidArgumentError(
      absl::StrCat(parsed.message(), "; accepted fields: ", FieldNames(*field.message_type())));
}

// Returns the element of a list of messages whose field `name` is `wanted`.
absl::StatusOr<Message*> NamedElement(Message& message, const FieldDescriptor& field, const std::string& wanted,
                                      const std::string& override) {
  const Reflection& reflection = *message.GetReflection();
  const FieldDescriptor* name = field.message_type()->FindFieldByName("name");
  if (name == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("--set ", override, ": ", field.name(),
                                                   " is a list; add to it with ", field.name(),
                                                   "+=FIELD: VALUE …, or name the fields in a file"));
  }
  std::vector<std::string> names;
  for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
    Message* element = reflection.MutableRepeatedMessage(&message, &field, i);
    names.push_back(element->GetReflection()->GetString(*element, name));
    if (names.back() == wanted) return element;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--set ", override, ": found \"", wanted, "\"; ", field.name(),
                   " accepts the name of an element: ", names.empty() ? "there is none" : absl::StrJoin(names, ", "),
                   "; add one with ", field.name(), "+=FIELD: VALUE …"));
}

absl::Status ApplyOverride(proto::RunConfig& config, const std::string& override) {
  const size_t equals = override.find('=');
  if (equals == std::string::npos || equals == 0) {
    return absl::InvalidArgumentError(absl::StrCat("--set ", override, ": needs path.to.field=value"));
  }
  const bool append = override[equals - 1] == '+';
  const std::string path = override.substr(0, equals - (append ? 1 : 0)), value = override.substr(equals + 1);
  Message* message = &config;
  const std::vector<std::string> names = absl::StrSplit(path, '.');
  for (size_t i = 0; i < names.size(); ++i) {
    const FieldDescriptor* field = message->GetDescriptor()->FindFieldByName(names[i]);
    if (field == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat("--set ", override, ": unknown field \"", names[i],
                                                     "\"; accepted: ", FieldNames(*message->GetDescriptor())));
    }
    if (i + 1 < names.size()) {
      if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
        return absl::InvalidArgumentError(
            absl::StrCat("--set ", override, ": ", names[i], " is a value, it has no field \"", names[i + 1], "\""));
      }
      if (!field->is_repeated()) {
        message = message->GetReflection()->MutableMessage(message, field);
        continue;
      }
      ISTHMUS_ASSIGN_OR_RETURN(message, NamedElement(*message, *field, names[++i], override));
      if (i + 1 < names.size()) continue;
      return absl::InvalidArgumentError(absl::StrCat("--set ", override, ": ", path, " has fields; name one of ",
                                                     FieldNames(*message->GetDescriptor())));
    }
    if (append && !field->is_repeated()) {
      return absl::InvalidArgumentError(
          absl::StrCat("--set ", override, ": += needs a list, and ", path, " is a single value; use ="));
    }
    if (!field->is_repeated()) return SetScalar(*message, *field, value, override);
    if (!append) message->GetReflection()->ClearField(message, field);
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) return AddMessage(*message, *field, value, override);
    for (const std::string& element : std::vector<std::string>(absl::StrSplit(value, ',', absl::SkipEmpty()))) {
      ISTHMUS_RETURN_IF_ERROR(SetScalar(*message, *field, element, override));
    }
  }
  return absl::OkStatus();
}

// States every field at its default, in all sub-messages. A field without one stays unset, and so does a choice among
// several (oneof): that one is set says something of its own.
void FillDefaults(Message& message) {
  const Reflection& reflection = *message.GetReflection();
  const Descriptor& descriptor = *message.GetDescriptor();
  for (int i = 0; i < descriptor.field_count(); ++i) {
    const FieldDescriptor* field = descriptor.field(i);
    if (field->is_repeated()) continue;
    if (field->containing_oneof() != nullptr && !reflection.HasField(message, field)) continue;
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      FillDefaults(*reflection.MutableMessage(&message, field));
      continue;
    }
    if (reflection.HasField(message, field) || !field->has_default_value()) continue;
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_STRING:
        reflection.SetString(&message, field, field->default_value_string());
        break;
      case FieldDescriptor::CPPTYPE_BOOL:
        reflection.SetBool(&message, field, field->default_value_bool());
        break;
      case FieldDescriptor::CPPTYPE_DOUBLE:
        reflection.SetDouble(&message, field, field->default_value_double());
        break;
      case FieldDescriptor::CPPTYPE_INT32:
        reflection.SetInt32(&message, field, field->default_value_int32());
        break;
      case FieldDescriptor::CPPTYPE_INT64:
        reflection.SetInt64(&message, field, field->default_value_int64());
        break;
      case FieldDescriptor::CPPTYPE_UINT64:
        reflection.SetUInt64(&message, field, field->default_value_uint64());
        break;
      case FieldDescriptor::CPPTYPE_ENUM:
        reflection.SetEnum(&message, field, field->default_value_enum());
        break;
      default:
        break;
    }
  }
}

// Does the reverse: clears fields that have their default, and messages that have nothing else. Elements of lists stay, and
// so do choices.
void ClearDefaults(Message& message) {
  const Reflection& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> set;
  reflection.ListFields(message, &set);
  for (const FieldDescriptor* field : set) {
    if (field->is_repeated()) continue;
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      Message& part = *reflection.MutableMessage(&message, field);
      ClearDefaults(part);
      if (part.ByteSizeLong() == 0 && field->containing_oneof() == nullptr) reflection.ClearField(&message, field);
    } else if (field->has_default_value()) {
      std::string found, standard;
      google::protobuf::TextFormat::PrintFieldValueToString(message, field, -1, &found);
      const std::unique_ptr<Message> empty(message.New());
      google::protobuf::TextFormat::PrintFieldValueToString(*empty, field, -1, &standard);
      if (found == standard) reflection.ClearField(&message, field);
    }
  }
}

}  // namespace

absl::StatusOr<proto::RunConfig> ParseConfig(const std::string& text, absl::string_view source,
                                             absl::Span<const std::string> overrides) {
  proto::RunConfig config;
  ISTHMUS_RETURN_IF_ERROR(ParseTextFormat(text, source, config));
  for (const std::string& override : overrides) {
    ISTHMUS_RETURN_IF_ERROR(ApplyOverride(config, override));
  }
  FillDefaults(config);
  return config;
}

absl::StatusOr<proto::RunConfig> LoadConfig(const std::string& path, absl::Span<const std::string> overrides) {
  ISTHMUS_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMostConfigBytes));
  return ParseConfig(text, path, overrides);
}

absl::StatusOr<proto::RunConfig> LoadRunConfig(const std::string& folder) {
  const std::string path = folder + "/config.textproto";
  std::error_code error;
  const auto kind = std::filesystem::status(path, error).type();
  if (kind != std::filesystem::file_type::regular && kind != std::filesystem::file_type::not_found) {
    return absl::InvalidArgumentError(path + ": is not a file; a run keeps its configuration there");
  }
  return LoadConfig(path, {});
}

std::string ConfigText(const proto::RunConfig& config) {
  std::string text;
  google::protobuf::TextFormat::PrintToString(config, &text);
  return text;
}

std::string ShortConfigText(proto::RunConfig config) {
  ClearDefaults(config);
  return ConfigText(config);
}

}  // namespace isthmus
