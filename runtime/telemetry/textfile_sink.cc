#include "runtime/telemetry/textfile_sink.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "runtime/durable_file.h"
#include "runtime/monotonic.h"
#include "runtime/output_target.h"
#include "runtime/status.h"

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
  // The name may be a link to a file in the node exporter's folder.
  ISTHMUS_ASSIGN_OR_RETURN(const OutputTarget target, FindOutputTarget(path_));
  const bool there = target.kind == OutputTarget::Kind::kFile;
  if ((!there && target.kind != OutputTarget::Kind::kNew) || !target.may_replace) {
    return absl::FailedPreconditionError(path_ + ": is no regular file, and is left alone");
  }
  std::string partial = target.path + ".partial";
  const std::string text = metrics_.Text();
  int descriptor = open(partial.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor < 0 && there && (errno == EACCES || errno == EPERM || errno == EROFS)) {
    partial.clear();
    descriptor = open(target.path.c_str(), O_WRONLY | O_CLOEXEC);
  }
  if (descriptor < 0) return FileError(path_, "can't create the file", errno);
  const ssize_t written = write(descriptor, text.data(), text.size());
  const auto size = static_cast<ssize_t>(text.size());
  int error = written < 0 ? errno : written == size ? 0 : ENOSPC;
  if (error == 0 && partial.empty() && ftruncate(descriptor, size) != 0) error = errno;
  if (error == 0 && !partial.empty() && there && fchmod(descriptor, target.status.st_mode & 07777) != 0) error = errno;
  if (close(descriptor) != 0 && error == 0) error = errno;
  if (error == 0 && !partial.empty() && std::rename(partial.c_str(), target.path.c_str()) != 0) error = errno;
  if (error == 0) return absl::OkStatus();
  if (!partial.empty()) unlink(partial.c_str());
  return FileError(path_, "can't write", error);
}

}  // namespace isthmus
