// This stands for a sink that could not be opened while a run trains, and is tried again with each record.
#ifndef ISTHMUS_LAUNCH_RUN_LATE_SINK_H_
#define ISTHMUS_LAUNCH_RUN_LATE_SINK_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <functional>
#include <memory>
#include <string>

#include "proto/telemetry.pb.h"
#include "runtime/telemetry/sink.h"

namespace isthmus {

// Every record is lost, and counted, until `open` succeeds; from then on it is the sink that was opened.
class LateSink : public TelemetrySink {
 public:
  using Open = std::function<absl::StatusOr<std::unique_ptr<TelemetrySink>>()>;
  LateSink(std::string name, Open open);

  const char* name() const override { return name_.c_str(); }
  absl::Status Write(const proto::TelemetryRecord& record) override;
  absl::Status Finish() override;

 private:
  std::string name_;
  Open open_;
  std::unique_ptr<TelemetrySink> sink_;
};

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_RUN_LATE_SINK_H_
