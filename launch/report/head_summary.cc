#include "launch/report/head_summary.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_replace.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <initializer_list>
#include <limits>
#include <memory>

#include "launch/plan/plan.h"
#include "launch/report/first_order_decrease.h"
#include "model/heads/heads.h"
#include "model/model.h"
#include "model/resolve.h"

namespace isthmus::report {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

constexpr double kNotKnown = std::numeric_limits<double>::quiet_NaN();
constexpr int64_t kTenth = 10;

std::string FieldText(const Message& message, const FieldDescriptor& field) {
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_STRING) return message.GetReflection()->GetString(message, &field);
  std::string text;
  google::protobuf::TextFormat::PrintFieldValueToString(message, &field, -1, &text);
  return text;
}

bool IsDefault(const Message& message, const FieldDescriptor& field) {
  const std::unique_ptr<Message> defaults(message.New());
  return FieldText(message, field) == FieldText(*defaults, field);
}

// Returns what is set to another value than the default, but for the fields `but`: "damping 0.01, match norm". Messages
// count if they have a kind that is not the default: "backward preconditioned (damping 0.01)".
std::string SettingsText(const Message& message, std::initializer_list<absl::string_view> but) {
  std::string text;
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor& field = *message.GetDescriptor()->field(i);
    if (field.is_repeated() || std::count(but.begin(), but.end(), field.name()) > 0) continue;
    std::string name = absl::StrReplaceAll(field.name(), {{"_", " "}});
    if (field.message_type() != nullptr) {
      const Message& part = message.GetReflection()->GetMessage(message, &field);
      const FieldDescriptor* kind = part.GetDescriptor()->FindFieldByName("kind");
      if (kind == nullptr || IsDefault(part, *kind)) continue;
      const std::string settings = SettingsText(part, {"kind"});
      absl::StrAppend(&name, " ", FieldText(part, *kind), settings.empty() ? "" : absl::StrCat(" (", settings, ")"));
    } else {
      if (IsDefault(message, field)) continue;
      if (const std::string value = FieldText(message, field); value != "true") absl::StrAppend(&name, " ", value);
    }
    absl::StrAppend(&text, text.empty() ? "" : ", ", name);
  }
  return text;
}

std::string FullHeadTitle(const proto::ModelConfig& model) {
  const std::string settings = SettingsText(model.head(), {"kind", "rank"});
  return absl::StrCat(HeadTitle(model), settings.empty() ? "" : ", ", settings);
}

// A configuration that a run could not have is not counted.
double HeadParameters(const Run& run) {
  proto::RunConfig config = *run.config;
  // Neither the mesh nor the layers change the head.
  config.clear_mesh();
  config.mutable_model()->set_layers(1);
  const double vocabulary = run.Fact("vocabulary");
  const bool known = vocabulary >= 1 && vocabulary <= std::numeric_limits<int32_t>::max();
  const int64_t rows = known ? static_cast<int64_t>(vocabulary) : config.model().vocabulary();
  if (rows < 1 || !ResolveConfig(config, /*world_size=*/1, "").ok()) return kNotKnown;
  if (!ResolveVocabulary(config, rows, "").ok()) return kNotKnown;
  return static_cast<double>(ParameterGroups::Of(ParametersOf(config)).head);
}

double LossAt(const std::vector<SeriesPoint>& curve, double tokens) {
  const auto after = std::lower_bound(curve.begin(), curve.end(), tokens,
                                      [](const SeriesPoint& point, double value) { return point.tokens < value; });
  if (after == curve.end()) return kNotKnown;
  if (after->tokens == tokens) return after->value;
  if (after == curve.begin()) return kNotKnown;
  const SeriesPoint& before = *(after - 1);
  return before.value + (after->value - before.value) * (tokens - before.tokens) / (after->tokens - before.tokens);
}

}  // namespace

double CommonTokens(absl::Span<const Run> runs) {
  double tokens = kNotKnown;
  for (const Run& run : runs) {
    const std::vector<SeriesPoint> loss = Smooth(run.Figure("train/loss").points());
    if (!loss.empty() && !(loss.back().tokens >= tokens)) tokens = loss.back().tokens;
  }
  return tokens;
}

HeadSummary SummariseHead(const Run& run, double common_tokens) {
  const std::vector<SeriesPoint> loss = Smooth(run.Figure("train/loss").points());
  const auto latest = [&](const char* name) { return MeanOfLastPart(run.Figure(absl::StrCat("head/", name)), kTenth); };
  const auto of_tokens = [&](const char* name) {
    return MeanOfLastPart(run.Figure(absl::StrCat("visible_share/", name)), kTenth);
  };
  const auto share = [&](const char* part) { return LastDecreaseShare(run, PartDecreaseKey(part)); };
  return {.title = run.config.has_value() ? FullHeadTitle(run.config->model()) : "",
          .parameters = run.config.has_value() ? HeadParameters(run) : kNotKnown,
          .loss = loss.empty() ? kNotKnown : loss.back().value,
          .common_loss = LossAt(loss, common_tokens),
          .validation_loss = run.Figure("validation/loss").Last(),
          .lost_norm_ratio = latest("lost_norm_ratio"),
          .isotropic_lost_norm_ratio = latest("isotropic_lost_norm_ratio"),
          .alignment_gain = latest("alignment_gain"),
          .logit_cosine = of_tokens("logit_cosine"),
          .log_probability_cosine = of_tokens("log_probability_cosine"),
          .visible_cosine = latest("visible_cosine"),
          .hidden_update_cosine = latest("hidden_update_cosine"),
          .conditioning_cosine = latest("conditioning_cosine"),
          .head_share = share("head"),
          .blocks_share = share("blocks"),
          .embedding_share = share("embedding"),
          .seconds_per_token = 1 / MedianOf(run.Figure("train/tokens_per_second"))};
}

}  // namespace isthmus::report
