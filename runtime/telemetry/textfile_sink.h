// The sink that writes metrics.prom, for the textfile collector of Prometheus's node exporter.
#ifndef ISTHMUS_RUNTIME_TELEMETRY_TEXTFILE_SINK_H_
#define ISTHMUS_RUNTIME_TELEMETRY_TEXTFILE_SINK_H_

#include <absl/status/status.h>
#include <absl/time/time.h>

#include <string>
#include <utility>

#include "proto/telemetry.pb.h"
#include "runtime/telemetry/prometheus_metrics.h"
#include "runtime/telemetry/sink.h"

namespace isthmus {

// The file is replaced as a whole, so that no reader sees half of it. That happens at most once a second, and at the
// end, when the file says that the run has ended. A symbolic link is followed. If the folder does not allow that, or
// the file is mounted, it is written in place. A pipe or a device is an error.
class TextfileSink : public TelemetrySink {
 public:
  explicit TextfileSink(std::string path) : path_(std::move(path)) { metrics_.SetEnded(false); }

  const char* name() const override { return "metrics.prom"; }
  // Errors: by errno. The file is then as it was, unless it is written in place. Until the next try the error stays.
  absl::Status Write(const proto::TelemetryRecord& record) override;
  absl::Status Finish() override;

 private:
  absl::Status Renew();

  std::string path_;
  PrometheusMetrics metrics_;
  absl::Duration next_ = -absl::InfiniteDuration();
  absl::Status renewed_;  // the result of the last try
  bool has_record_ = false;
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_TELEMETRY_TEXTFILE_SINK_H_
