#include "runtime/telemetry/append_file.h"

#include <absl/memory/memory.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "runtime/durable_file.h"
#include "runtime/status.h"

namespace isthmus {

absl::StatusOr<std::unique_ptr<AppendFile>> AppendFile::Create(const std::string& path) {
  // FindOutputTarget follows links, because O_EXCL would take a link to nothing for an existing file.
  ISTHMUS_ASSIGN_OR_RETURN(const OutputTarget target, FindOutputTarget(path));
  const int descriptor = open(target.path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (descriptor < 0 && errno == EEXIST) return absl::AlreadyExistsError(path + ": there is one already");
  if (descriptor < 0) return FileError(path, "can't create the file", errno);
  return absl::WrapUnique(new AppendFile(path, descriptor, 0));
}

absl::StatusOr<std::unique_ptr<AppendFile>> AppendFile::Continue(const std::string& path, int64_t bytes) {
  const int descriptor = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor < 0) return FileError(path, "can't open the file", errno);
  auto file = absl::WrapUnique(new AppendFile(path, descriptor, bytes));
  if (ftruncate(descriptor, bytes) != 0) return FileError(path, "can't cut the file", errno);
  return file;
}

AppendFile::~AppendFile() { close(descriptor_); }

absl::Status AppendFile::Append(absl::string_view piece) {
  const ssize_t written = pwrite(descriptor_, piece.data(), piece.size(), bytes_);
  if (written == static_cast<ssize_t>(piece.size())) {
    bytes_ += written;
    return absl::OkStatus();
  }
  // A disk that fills up takes a part.
  const int error = written < 0 ? errno : ENOSPC;
  // Where even this fails, the next piece overwrites what is there.
  if (ftruncate(descriptor_, bytes_) != 0) return FileError(path_, "can't take half a piece back", errno);
  return FileError(path_, "can't write", error);
}

}  // namespace isthmus
