#include "runtime/telemetry/jsonl_sink.h"

#include <absl/memory/memory.h>
#include <absl/strings/str_cat.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "runtime/durable_file.h"
#include "runtime/telemetry/record_json.h"

namespace isthmus {

absl::StatusOr<std::unique_ptr<JsonlSink>> JsonlSink::Create(const std::string& path) {
  const int descriptor = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (descriptor < 0 && errno == EEXIST) {
    return absl::AlreadyExistsError(
        absl::StrCat(path, ": the folder already holds a run; set `folder` to another one, or remove it"));
  }
  if (descriptor < 0) return FileError(path, "can't create the file", errno);
  return absl::WrapUnique(new JsonlSink(descriptor));
}

JsonlSink::~JsonlSink() { close(descriptor_); }

void JsonlSink::Write(const proto::TelemetryRecord& record) {
  const std::string line = RecordJson(record) + "\n";
  const auto size = static_cast<ssize_t>(line.size());
  if (pwrite(descriptor_, line.data(), line.size(), bytes_) == size) {
    bytes_ += size;
    return;
  }
  ++failures_;
  // Half a line would spoil the file for its readers. Where even this fails, the next line overwrites it.
  if (ftruncate(descriptor_, bytes_) != 0) ++failures_;
}

}  // namespace isthmus
