#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/time/time.h>

#include <cmath>

#include "launch/report/html.h"
#include "launch/report/sections.h"
#include "model/heads/heads.h"

namespace isthmus::report {
namespace {

std::string Tile(const std::string& value, absl::string_view name) {
  return absl::StrCat("<div class=\"tile\"><dt>", name, "</dt><dd>", value, "</dd></div>");
}

std::string FactRow(absl::string_view name, const std::string& text) {
  return text.empty() ? "" : absl::StrCat("<dt>", name, "</dt><dd>", Escape(text), "</dd>\n");
}

std::string StateText(const Run& run) {
  if (std::isnan(run.step)) return "no step yet";
  std::string text = absl::StrCat(run.finished ? "finished at step " : "not finished: at step ", WholeText(run.step));
  if (!run.finished && run.config.has_value()) absl::StrAppend(&text, " of ", run.config->schedule().steps());
  if (std::isfinite(run.timestamp) && std::abs(run.timestamp) < 1e11) {
    absl::StrAppend(
        &text, ", ",
        absl::FormatTime("%Y-%m-%d %H:%M UTC", absl::UnixEpoch() + absl::Seconds(run.timestamp), absl::UTCTimeZone()));
  }
  return text;
}

std::string MeshText(const Run& run) {
  const double tensor = run.Fact("tensor_ranks"), data = run.Fact("data_ranks"), threads = run.Fact("threads_per_rank");
  if (std::isnan(tensor) || std::isnan(data)) return "";
  return absl::StrCat(
      tensor, " tensor × ", data, " data ranks",
      std::isnan(threads) ? "" : absl::StrCat(" with ", threads, threads == 1 ? " thread" : " threads"));
}

std::string ModelText(const Run& run) {
  if (!run.config.has_value()) return "";
  const proto::ModelConfig& model = run.config->model();
  return absl::StrCat("D ", model.width(), ", L ", model.layers(), ", V ", model.vocabulary(), ", T ",
                      run.config->data().sequence_length(), ", ", HeadTitle(model));
}

std::string DeviceText(const Run& run) {
  if (!run.config.has_value()) return run.device;
  const auto& precision = run.config->precision();
  std::string text = proto::PrecisionConfig::Kind_Name(precision.compute());
  for (char& letter : text) letter = letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter - 'A' + 'a') : letter;
  if (precision.fp8_layers()) text += " with 8-bit layers";
  return run.device.empty() ? text : absl::StrCat(run.device, ", ", text);
}

std::string Card(const Run& run, size_t index) {
  std::string html = absl::StrCat("<article>\n<h3>", RunLabel(run, index), "</h3>\n<dl class=\"tiles\">");
  const std::vector<SeriesPoint> loss = Smooth(run.Figure("train/loss").points());
  absl::StrAppend(&html, Tile(loss.empty() ? "–" : ValueText(loss.back().value, Unit::kNumber), "training loss"),
                  Tile(ValueText(run.Figure("validation/loss").Last(), Unit::kNumber), "validation loss"),
                  Tile(ValueText(run.Figure("head/lost_norm_ratio").Last(), Unit::kPercent), "gradient lost"),
                  Tile(ValueText(run.Figure("head/isotropic_lost_norm_ratio").Last(), Unit::kPercent), "random head"));
  absl::StrAppend(&html, "</dl>\n<dl class=\"facts\">\n", FactRow("state", StateText(run)));
  if (std::isfinite(run.tokens)) {
    absl::StrAppend(&html, FactRow("trained", absl::StrCat(ValueText(run.tokens, Unit::kCount), " tokens in ",
                                                           ValueText(run.seconds, Unit::kSeconds))));
  }
  if (const double parameters = run.Fact("parameters"); std::isfinite(parameters)) {
    absl::StrAppend(&html, FactRow("parameters", ValueText(parameters, Unit::kCount)));
  }
  absl::StrAppend(&html, FactRow("model", ModelText(run)), FactRow("device", DeviceText(run)),
                  FactRow("mesh", MeshText(run)), FactRow("version", run.version), FactRow("folder", run.folder));
  absl::StrAppend(&html, "</dl>\n");
  for (const std::string& note : run.notes) absl::StrAppend(&html, "<p class=\"warning\">", Escape(note), "</p>\n");
  return absl::StrCat(html, "</article>\n");
}

}  // namespace

std::string RunsSection(absl::Span<const Run> runs) {
  std::string cards;
  for (size_t i = 0; i < runs.size(); ++i) absl::StrAppend(&cards, Card(runs[i], i));
  return SectionHtml(runs.size() == 1 ? "Run" : "Runs", absl::StrCat("<div class=\"cards\">\n", cards, "</div>\n"));
}

}  // namespace isthmus::report
