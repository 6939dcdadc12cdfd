#include "runtime/telemetry/prometheus_metrics.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <limits>
#include <set>
#include <sstream>
#include <utility>

#include "runtime/telemetry/help_text.h"

namespace isthmus {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricType;

std::string MetricName(const Figure& figure) {
  if (figure.metric == "step") return "isthmus_steps_total";
  if (figure.metric == "tokens") return "isthmus_tokens_total";
  if (figure.metric == "timestamp_seconds") return "isthmus_last_step_timestamp_seconds";
  return "isthmus_" + figure.metric;
}

void AddUp(const proto::Histogram& histogram, ClientMetric::Histogram& total) {
  const auto buckets = static_cast<size_t>(histogram.bounds_size()) + 1;
  if (histogram.counts_size() != static_cast<int>(buckets)) return;
  const auto bound = [&](size_t i) {
    return i + 1 < buckets ? histogram.bounds(static_cast<int>(i)) : std::numeric_limits<double>::infinity();
  };
  bool same = total.bucket.size() == buckets;
  for (size_t i = 0; same && i < buckets; ++i) same = total.bucket[i].upper_bound == bound(i);
  if (!same) {
    total = {};
    for (size_t i = 0; i < buckets; ++i) total.bucket.push_back({0, bound(i)});
  }
  uint64_t below = 0;
  for (size_t i = 0; i < buckets; ++i) {
    below += static_cast<uint64_t>(histogram.counts(static_cast<int>(i)));
    total.bucket[i].cumulative_count += below;
  }
  total.sample_count += below;
  total.sample_sum += histogram.has_sum() ? histogram.sum() : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace

ClientMetric& PrometheusMetrics::Metric(const std::string& name, const google::protobuf::FieldDescriptor& field,
                                        MetricType type, const std::vector<ClientMetric::Label>& labels) {
  auto& family = families_[name];
  if (family.name.empty()) {
    family.name = name;
    family.help = HelpText(field);
    family.type = type;
  }
  for (ClientMetric& metric : family.metric) {
    if (metric.label == labels) return metric;
  }
  family.metric.emplace_back().label = labels;
  return family.metric.back();
}

void PrometheusMetrics::SetInfo(const Figure& figure, const std::string& text) {
  const bool build = figure.tag == "run/version";
  auto& family = families_[build ? "isthmus_build_info" : "isthmus_run_info"];
  if (family.name.empty()) {
    family.name = build ? "isthmus_build_info" : "isthmus_run_info";
    family.help = build ? "The program, by its labels." : "The run, by its labels.";
    family.type = MetricType::Gauge;
    family.metric.emplace_back().gauge.value = 1;
  }
  auto& labels = family.metric.front().label;
  const auto has_name = [&](const ClientMetric::Label& label) { return label.name == figure.field->name(); };
  const auto label = std::find_if(labels.begin(), labels.end(), has_name);
  if (label == labels.end()) {
    labels.push_back({figure.field->name(), text});
  } else {
    label->value = text;
  }
}

void PrometheusMetrics::Set(const Figure& figure) {
  if (const auto* text = std::get_if<std::string>(&figure.value)) {
    SetInfo(figure, *text);
    return;
  }
  std::vector<ClientMetric::Label> labels;
  for (const auto& [name, value] : figure.labels) labels.push_back({name, value});
  const std::string name = MetricName(figure);
  if (const auto* histogram = std::get_if<const proto::Histogram*>(&figure.value)) {
    AddUp(**histogram, Metric(name, *figure.field, MetricType::Histogram, labels).histogram);
    return;
  }
  const bool counter = absl::EndsWith(name, "_total");
  ClientMetric& metric = Metric(name, *figure.field, counter ? MetricType::Counter : MetricType::Gauge, labels);
  (counter ? metric.counter.value : metric.gauge.value) = std::get<double>(figure.value);
}

void PrometheusMetrics::Update(const proto::TelemetryRecord& record) {
  const std::lock_guard lock(mutex_);
  std::set<std::string> renewed;
  ForEachFigure(record, [&](const Figure& figure) {
    const bool number = std::holds_alternative<double>(figure.value);
    if (number && figure.field->containing_type() == proto::TimeRecord::descriptor()) return;
    if (number && !figure.labels.empty() && renewed.insert(figure.metric).second) {
      const auto family = families_.find(MetricName(figure));
      if (family != families_.end()) family->second.metric.clear();
    }
    Set(figure);
  });
}

void PrometheusMetrics::SetEnded(bool ended) {
  const std::lock_guard lock(mutex_);
  auto& family = families_["isthmus_run_ended"];
  family.name = "isthmus_run_ended";
  family.help = "1 once the program has ended in order, and these figures change no more.";
  family.type = MetricType::Gauge;
  family.metric.resize(1);
  family.metric.front().gauge.value = ended ? 1 : 0;
}

std::vector<prometheus::MetricFamily> PrometheusMetrics::Collect() const {
  const std::lock_guard lock(mutex_);
  std::vector<prometheus::MetricFamily> families;
  for (const auto& [name, family] : families_) families.push_back(family);
  return families;
}

std::string PrometheusMetrics::Text() const {
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, Collect());
  return out.str();
}

}  // namespace isthmus
