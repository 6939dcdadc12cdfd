// The sink that writes metrics.jsonl: one record per line.
#ifndef ISTHMUS_RUNTIME_TELEMETRY_JSONL_SINK_H_
#define ISTHMUS_RUNTIME_TELEMETRY_JSONL_SINK_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <memory>
#include <string>
#include <utility>

#include "proto/telemetry.pb.h"
#include "runtime/telemetry/append_file.h"
#include "runtime/telemetry/kept_records.h"
#include "runtime/telemetry/notes.h"
#include "runtime/telemetry/sink.h"

namespace isthmus {

// Returns AlreadyExists for the start of a new run in a folder where another run has left `path`, its records or a
// checkpoint.
absl::Status HoldsARun(const std::string& path);

class JsonlSink : public TelemetrySink {
 public:
  // Makes the file. Errors: AlreadyExists when there is one, so that two runs never share a folder; by errno.
  static absl::StatusOr<std::unique_ptr<JsonlSink>> Create(const std::string& path);
  // Appends to the file of an earlier start of the run. Records of `steps` stay. The file is cut off at the first later
  // record, because the run makes those anew. A broken last line is cut off, too.
  //
  // A file is never cut if it can't be read to its end, or has lines that are damaged or out of order. See
  // runtime/telemetry/kept_records.h. It then gets the first free name of metrics.jsonl.1, .2, … as a whole. Its sound
  // records go into a new file, and a note says so.
  //
  // Makes the file if there is none. Errors: by errno, also if the file has to get another name and can't. Nothing is
  // lost then.
  static absl::StatusOr<std::unique_ptr<JsonlSink>> Continue(const std::string& path, const StepsSoFar& steps,
                                                             Notes& notes);

  const char* name() const override { return "metrics.jsonl"; }
  // Appends one whole line, or nothing.
  absl::Status Write(const proto::TelemetryRecord& record) override;

 private:
  explicit JsonlSink(std::unique_ptr<AppendFile> file) : file_(std::move(file)) {}

  std::unique_ptr<AppendFile> file_;
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_TELEMETRY_JSONL_SINK_H_
