// The destination of telemetry records.
#ifndef ISTHMUS_RUNTIME_TELEMETRY_SINK_H_
#define ISTHMUS_RUNTIME_TELEMETRY_SINK_H_

#include <absl/status/status.h>

#include "proto/telemetry.pb.h"

namespace isthmus {

// A sink is made on the training thread. A thread of its own then uses and destroys it (runtime/telemetry/sinks.h), so
// it may block.
class TelemetrySink {
 public:
  virtual ~TelemetrySink() = default;
  // The name for messages: "metrics.jsonl".
  virtual const char* name() const = 0;
  // After an error the record is lost to this sink, and counted; the next one is tried again.
  virtual absl::Status Write(const proto::TelemetryRecord& record) = 0;
  // Called after the last record.
  virtual absl::Status Finish() { return absl::OkStatus(); }
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_TELEMETRY_SINK_H_
