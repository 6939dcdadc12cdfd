// The sink that serves /metrics over HTTP for Prometheus.
#ifndef ISTHMUS_RUNTIME_TELEMETRY_PROMETHEUS_SINK_H_
#define ISTHMUS_RUNTIME_TELEMETRY_PROMETHEUS_SINK_H_

#include <absl/status/status.h>
#include <absl/time/time.h>

#include <memory>
#include <string>

#include "proto/telemetry.pb.h"
#include "runtime/telemetry/notes.h"
#include "runtime/telemetry/prometheus_metrics.h"
#include "runtime/telemetry/sink.h"

namespace prometheus {
class Exposer;
}

namespace isthmus {

// Two threads of the server, of the sink thread's low priority, answer requests. However many clients there are and
// whatever they send, they wait for one another, and training does not wait for them. A connection that sends no
// complete request in two seconds is closed.
class PrometheusSink : public TelemetrySink {
 public:
  // Opens the port with the first record. If that fails it is tried again, at most once a second.
  PrometheusSink(const std::string& address, int port, std::shared_ptr<Notes> notes);
  ~PrometheusSink() override;

  const char* name() const override { return "Prometheus"; }
  // Errors: Unavailable while the port can't be had; ResourceExhausted while there is no memory, or no thread, left.
  absl::Status Write(const proto::TelemetryRecord& record) override;

 private:
  absl::Status Open();

  std::string endpoint_;  // "127.0.0.1:9464", "[::1]:9464"
  std::shared_ptr<Notes> notes_;
  std::shared_ptr<PrometheusMetrics> metrics_;
  std::unique_ptr<prometheus::Exposer> exposer_;
  absl::Duration next_try_ = -absl::InfiniteDuration();
  absl::Status opened_;  // the result of the last try
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_TELEMETRY_PROMETHEUS_SINK_H_
