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

// "events.out.tfevents.<time>.<host>.<process>": TensorBoard reads the files of a folder in the order of their names,
// and what a later one starts with makes void what earlier ones hold of the same steps. So the name comes after
// `latest`, the last one that is there, whatever the clocks of the machines are: where `now`, in seconds since 1970,
// does not do, the time is a second after the latest file's.
std::string EventFileName(const std::string& latest, int64_t now);

// Scalars (fp32: what an event holds) and histograms under the tags of runtime/telemetry/figures.h. The file is a
// sequence of TFRecords, each an Event (proto/tensorboard_event.proto):
//
//   uint64 length | uint32 masked CRC-32C of length | data | uint32 masked CRC-32C of data      all little-endian
//
// (tensorflow/core/lib/io/record_writer.h). An end of a bucket that a histogram does not know (of its first and last
// one) is put as far away as the neighbouring bucket is wide.
class TensorboardSink : public TelemetrySink {
 public:
  // A new file of the folder, called by EventFileName and made with the first record. `first_step`: of that record.
  // What other files of the folder hold from that step on is void to TensorBoard, so that the curves of a resumed run
  // do not overlap. Errors: by errno when no file can be made in the folder.
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
