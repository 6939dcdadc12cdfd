// The sink that writes TensorBoard's event files.
#ifndef ISTHMUS_RUNTIME_TELEMETRY_TENSORBOARD_SINK_H_
#define ISTHMUS_RUNTIME_TELEMETRY_TENSORBOARD_SINK_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "proto/telemetry.pb.h"
#include "runtime/telemetry/append_file.h"
#include "runtime/telemetry/sink.h"

namespace isthmus {

// "events.out.tfevents.<time>.<host>.<process>". TensorBoard reads the files of a folder in the order of their names.
// The first step of a later file voids what earlier files hold from that step on. So the name must come after `latest`,
// the last existing one, whatever the machines' clocks say. If `now`, in seconds since 1970, is too early, the name has
// the latest file's time plus one second.
std::string EventFileName(const std::string& latest, int64_t now);

// Scalars (fp32: what an event holds) and histograms under the tags of runtime/telemetry/figures.h. The file is a
// sequence of TFRecords, each an Event (proto/tensorboard_event.proto):
//
//   uint64 length | uint32 masked CRC-32C of length | data | uint32 masked CRC-32C of data      all little-endian
//
// The format is that of tensorflow/core/lib/io/record_writer.h. A histogram does not know the outer ends of its first
// and last bucket. Each is put as far away as the neighbouring bucket is wide.
class TensorboardSink : public TelemetrySink {
 public:
  // Makes a new file in the folder, named by EventFileName, with the first record, whose step is `first_step`.
  // TensorBoard then ignores what other files hold from that step on, so that the curves of a resumed run do not
  // overlap. Errors: by errno if no file can be made in the folder.
  static absl::StatusOr<std::unique_ptr<TensorboardSink>> Create(const std::string& folder, int64_t first_step);

  const char* name() const override { return "TensorBoard events"; }
  // Errors: by errno. The file then has nothing of the record.
  absl::Status Write(const proto::TelemetryRecord& record) override;

 private:
  TensorboardSink(std::string folder, std::string header) : folder_(std::move(folder)), header_(std::move(header)) {}
  absl::Status MakeFile();

  std::string folder_;
  std::unique_ptr<AppendFile> file_;  // from the first record on
  std::string header_;                // until it is in the file
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_TELEMETRY_TENSORBOARD_SINK_H_
