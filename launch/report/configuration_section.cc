#include <absl/strings/str_cat.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/text_format.h>

#include <map>

#include "launch/report/html.h"
#include "launch/report/sections.h"

namespace isthmus::report {
namespace {

using Fields = std::vector<std::pair<std::string, std::string>>;

// Lists every field with its value in text format, in the schema's order.
void ListFields(const google::protobuf::Message& message, const std::string& prefix, Fields& fields) {
  const auto& descriptor = *message.GetDescriptor();
  const auto& reflection = *message.GetReflection();
  for (int i = 0; i < descriptor.field_count(); ++i) {
    const auto& field = *descriptor.field(i);
    const std::string path = prefix + field.name();
    if (!field.is_repeated() && field.message_type() != nullptr) {
      ListFields(reflection.GetMessage(message, &field), path + ".", fields);
      continue;
    }
    std::string text, value;
    const int count = field.is_repeated() ? reflection.FieldSize(message, &field) : 1;
    for (int k = 0; k < count; ++k) {
      google::protobuf::TextFormat::PrintFieldValueToString(message, &field, field.is_repeated() ? k : -1, &value);
      absl::StrAppend(&text, k > 0 ? ", " : "", value);
    }
    fields.emplace_back(path, text);
  }
}

}  // namespace

std::string ConfigurationSection(absl::Span<const Run> runs) {
  if (runs.size() < 2) return "";
  std::vector<Fields> fields(runs.size());
  const Fields* any = nullptr;
  for (size_t i = 0; i < runs.size(); ++i) {
    if (!runs[i].config.has_value()) continue;
    ListFields(*runs[i].config, "", fields[i]);
    any = &fields[i];
  }
  if (any == nullptr) return "";
  Table table{.caption = "Fields of config.textproto that differ", .header = {"Field"}};
  for (size_t i = 0; i < runs.size(); ++i) table.header.push_back(RunLabel(runs[i], i));
  for (size_t field = 0; field < any->size(); ++field) {
    const auto& [path, value] = (*any)[field];
    if (path == "folder") continue;  // differs always, and is the run's name
    bool differs = false;
    std::vector<std::string> row = {absl::StrCat("<code>", Escape(path), "</code>")};
    for (const Fields& own : fields) {
      differs |= !own.empty() && own[field].second != value;
      row.push_back(own.empty() ? "–" : absl::StrCat("<code>", Escape(own[field].second), "</code>"));
    }
    if (differs) table.rows.push_back(std::move(row));
  }
  return SectionHtml("Differences between the configurations",
                     table.rows.empty() ? "<p>None but the folders.</p>\n" : TableHtml(table));
}

}  // namespace isthmus::report
