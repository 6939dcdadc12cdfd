// The sink that writes metrics.jsonl: one record per line.
#ifndef ISTHMUS_RUNTIME_TELEMETRY_JSONL_SINK_H_
#define ISTHMUS_RUNTIME_TELEMETRY_JSONL_SINK_H_

#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <string>

#include "proto/telemetry.pb.h"

namespace isthmus {

class JsonlSink {
 public:
  // Makes the file. Errors: AlreadyExists when there is one, so that two runs never share a folder; by errno.
  static absl::StatusOr<std::unique_ptr<JsonlSink>> Create(const std::string& path);
  ~JsonlSink();
  JsonlSink(const JsonlSink&) = delete;
  JsonlSink& operator=(const JsonlSink&) = delete;

  // Appends one whole line, or nothing. A record that can't be written is counted and left out: telemetry never stops a
  // run.
  void Write(const proto::TelemetryRecord& record);
  int64_t failures() const { return failures_; }

 private:
  explicit JsonlSink(int descriptor) : descriptor_(descriptor) {}

  int descriptor_;
  int64_t bytes_ = 0;
  int64_t failures_ = 0;
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_TELEMETRY_JSONL_SINK_H_
