#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <google/protobuf/descriptor.h>

#include <set>

#include "launch/report/html.h"
#include "launch/report/sections.h"
#include "proto/telemetry.pb.h"
#include "runtime/telemetry/help_text.h"

namespace isthmus::report {
namespace {

bool IsShownElsewhere(absl::string_view key) {
  static constexpr absl::string_view kKeys[] = {"train/loss",
                                                "validation/loss",
                                                "validation/tokens",
                                                "train/tokens_per_second",
                                                "head/lost_norm_ratio",
                                                "head/lost_energy_ratio",
                                                "head/isotropic_lost_norm_ratio",
                                                "head/sampled_retained_energy_ratio",
                                                "head/best_rank_energy_ratio",
                                                "head/visible_cosine",
                                                "head/hidden_update_cosine",
                                                "head/conditioning_cosine",
                                                "head/update_cosine"};
  for (const absl::string_view shown : kKeys) {
    if (key == shown) return true;
  }
  return absl::StartsWith(key, "time/");
}

Unit UnitOf(absl::string_view key) {
  if (absl::EndsWith(key, "_seconds")) return Unit::kSeconds;
  return absl::EndsWith(key, "_ratio") || absl::EndsWith(key, "_share") ? Unit::kPercent : Unit::kNumber;
}

// Returns the field of a record that a key names; null if this version has none. Behind a list stands what tells its
// elements apart.
const google::protobuf::FieldDescriptor* FieldOf(absl::string_view key) {
  const google::protobuf::Descriptor* message = proto::TelemetryRecord::descriptor();
  const google::protobuf::FieldDescriptor* field = nullptr;
  bool passed_label = false;
  for (const absl::string_view name : absl::StrSplit(key, '/')) {
    passed_label = field != nullptr && field->is_repeated() && !passed_label;
    if (passed_label) continue;
    field = message == nullptr ? nullptr : message->FindFieldByName(std::string(name));
    if (field == nullptr) return nullptr;
    message = field->message_type();
  }
  return field;
}

std::string FigurePlot(absl::Span<const Run> runs, const std::string& key) {
  const auto* field = FieldOf(key);
  Plot plot{.title = key,
            .x_title = "tokens",
            .y_title = "value",
            .note = field == nullptr ? "" : Escape(HelpText(*field)),
            .y_unit = UnitOf(key),
            .y_logarithmic_above = 30,
            .lines = {}};
  for (size_t i = 0; i < runs.size(); ++i) {
    plot.lines.push_back(
        {.name = runs[i].name, .style = static_cast<int>(i), .points = DrawnPoints(runs[i].Figure(key).points())});
  }
  return PlotHtml(plot);
}

}  // namespace

std::string FiguresSection(absl::Span<const Run> runs) {
  std::set<std::string> keys;
  for (const Run& run : runs) {
    for (const auto& [key, series] : run.figures) {
      if (!series.empty() && !IsShownElsewhere(key)) keys.insert(key);
    }
  }
  std::string plots;
  for (const std::string& key : keys) absl::StrAppend(&plots, FigurePlot(runs, key));
  if (plots.empty()) return "";
  return SectionHtml("Every other figure",
                     Details(absl::StrCat(keys.size(), " figures against tokens"), PlotGrid(plots)));
}

}  // namespace isthmus::report
