// Where telemetry records go.
#ifndef ISTHMUS_RUNTIME_TELEMETRY_SINK_H_
#define ISTHMUS_RUNTIME_TELEMETRY_SINK_H_

#include <absl/status/status.h>

#include "proto/telemetry.pb.h"

namespace isthmus {

// Made on the training thread, then used and destroyed by a thread of its own (runtime/telemetry/sinks.h): it may
// block.
class TelemetrySink {
 public:
  virtual ~TelemetrySink() = default;
  // For messages: "metrics.jsonl".
  virtual const char* name() const = 0;
  // Errors: the record is lost to this sink, and counted; the next one is tried again.
  virtual absl::Status Write(const proto::TelemetryRecord& record) = 0;
  // After the last record.
  virtual absl::Status Finish() { return absl::OkStatus(); }
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_TELEMETRY_SINK_H_
