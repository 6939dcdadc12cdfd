#include "runtime/telemetry/textfile_sink.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "runtime/durable_file.h"
#include "runtime/monotonic.h"

namespace isthmus {

absl::Status TextfileSink::Write(const proto::TelemetryRecord& record) {
  metrics_.Update(record);
  has_record_ = true;
  if (MonotonicNow() < next_) return absl::OkStatus();
  next_ = MonotonicNow() + absl::Seconds(1);
  return Replace();
}

// Without a record there is nothing to say: what an earlier start of the run left stays.
absl::Status TextfileSink::Finish() {
  if (!has_record_) return absl::OkStatus();
  metrics_.SetEnded(true);
  return Replace();
}

// Not flushed to disk (runtime/durable_file.h): after a crash of the machine the figures are old anyway.
absl::Status TextfileSink::Replace() {
  const std::string partial = path_ + ".partial", text = metrics_.Text();
  const int descriptor = open(partial.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor < 0) return FileError(partial, "can't create the file", errno);
  const ssize_t written = write(descriptor, text.data(), text.size());
  int error = written < 0 ? errno : written == static_cast<ssize_t>(text.size()) ? 0 : ENOSPC;
  if (close(descriptor) != 0 && error == 0) error = errno;
  if (error == 0 && std::rename(partial.c_str(), path_.c_str()) != 0) error = errno;
  if (error == 0) return absl::OkStatus();
  unlink(partial.c_str());
  return FileError(path_, "can't write", error);
}

}  // namespace isthmus
