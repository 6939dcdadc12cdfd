#include "runtime/telemetry/textfile_sink.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string>

#include "runtime/durable_file.h"
#include "runtime/fault_point.h"
#include "runtime/monotonic.h"
#include "runtime/output_target.h"
#include "runtime/status.h"

namespace isthmus {

namespace {

// A file of an earlier run, a link or a pipe may have the name. To open a pipe would wait for a reader.
int OpenPartial(const std::string& path) {
  const auto create = [&] { return open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644); };
  const int descriptor = create();
  return descriptor < 0 && errno == EEXIST && unlink(path.c_str()) == 0 ? create() : descriptor;
}

// Makes `text` the whole contents of the file, and closes it. Returns 0, or errno.
int WriteAndClose(int descriptor, const std::string& text) {
  const auto size = static_cast<ssize_t>(text.size());
  const ssize_t written = write(descriptor, text.data(), text.size());
  int error = written < 0 ? errno : written == size ? 0 : ENOSPC;
  if (error == 0 && ftruncate(descriptor, size) != 0) error = errno;
  if (close(descriptor) != 0 && error == 0) error = errno;
  return error;
}

// Gives the name of the target to a new file. Returns 0, or errno.
int ReplaceWith(const std::string& text, const OutputTarget& target) {
  const std::string partial = target.path + ".partial";
  const int descriptor = OpenPartial(partial);
  if (descriptor < 0) return errno;
  const bool there = target.kind == OutputTarget::Kind::kFile;
  int error = there && fchmod(descriptor, target.status.st_mode & 07777) != 0 ? errno : 0;
  if (const int failed = WriteAndClose(descriptor, text); error == 0) error = failed;
  if (error == 0 && std::rename(partial.c_str(), target.path.c_str()) != 0) error = errno;
  if (error != 0) unlink(partial.c_str());
  return error;
}

int WriteInPlace(const std::string& text, const OutputTarget& target) {
  const int descriptor = open(target.path.c_str(), O_WRONLY | O_CLOEXEC);
  return descriptor < 0 ? errno : WriteAndClose(descriptor, text);
}

}  // namespace

absl::Status TextfileSink::Write(const proto::TelemetryRecord& record) {
  metrics_.Update(record);
  has_record_ = true;
  if (MonotonicNow() < next_) return renewed_;
  next_ = MonotonicNow() + absl::Seconds(1);
  renewed_ = Renew();
  return renewed_;
}

// Without a record there is nothing to say: what an earlier start of the run left stays.
absl::Status TextfileSink::Finish() {
  if (!has_record_) return absl::OkStatus();
  metrics_.SetEnded(true);
  return Renew();
}

// The file is not flushed to disk (runtime/durable_file.h): after a crash of the machine the figures are old anyway.
absl::Status TextfileSink::Renew() {
  // The name may be a link to a file in the node exporter's folder.
  ISTHMUS_ASSIGN_OR_RETURN(const OutputTarget target, FindOutputTarget(path_));
  const bool there = target.kind == OutputTarget::Kind::kFile;
  if ((!there && target.kind != OutputTarget::Kind::kNew) || !target.may_replace) {
    return absl::FailedPreconditionError(path_ + ": is no regular file, and is left alone");
  }
  FaultPoint("textfile.write");
  const std::string text = metrics_.Text();
  int error = ReplaceWith(text, target);
  if (there && IsOfTheFolder(error)) error = WriteInPlace(text, target);
  return error == 0 ? absl::OkStatus() : FileError(path_, "can't write", error);
}

}  // namespace isthmus
