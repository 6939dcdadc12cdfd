// Telemetry records as Prometheus metrics: the latest value of every figure.
#ifndef ISTHMUS_RUNTIME_TELEMETRY_PROMETHEUS_METRICS_H_
#define ISTHMUS_RUNTIME_TELEMETRY_PROMETHEUS_METRICS_H_

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "proto/telemetry.pb.h"
#include "runtime/telemetry/figures.h"

namespace isthmus {

// A figure is called "isthmus_" + its metric (runtime/telemetry/figures.h), with these exceptions:
//   step, tokens, timestamp_seconds   isthmus_steps_total, isthmus_tokens_total, isthmus_last_step_timestamp_seconds
//   run/version                       label of isthmus_build_info; other texts are labels of isthmus_run_info
//   time/forward_seconds and others   left out: they are isthmus_time_phase_maximum_seconds, by phase
// Metrics that end in _total are counters; the rest are gauges. Histograms add up over records, as Prometheus expects
// of them. A list whose elements have labels keeps only those that the latest record names. The class is thread-safe.
class PrometheusMetrics : public prometheus::Collectable {
 public:
  void Update(const proto::TelemetryRecord& record);
  // Sets isthmus_run_ended, for readers of figures that outlast the program: they stay as they are, and nothing is
  // late.
  void SetEnded(bool ended);
  std::vector<prometheus::MetricFamily> Collect() const override;
  // Returns Prometheus's text format, version 0.0.4.
  std::string Text() const;

 private:
  void Set(const Figure& figure);
  void SetInfo(const Figure& figure, const std::string& text);
  prometheus::ClientMetric& Metric(const std::string& name, const google::protobuf::FieldDescriptor& field,
                                   prometheus::MetricType type,
                                   const std::vector<prometheus::ClientMetric::Label>& labels);

  mutable std::mutex mutex_;
  std::map<std::string, prometheus::MetricFamily> families_;
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_TELEMETRY_PROMETHEUS_METRICS_H_
