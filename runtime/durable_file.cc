#include "runtime/durable_file.h"

#include <absl/cleanup/cleanup.h>
#include <absl/memory/memory.h>
#include <absl/strings/str_cat.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "runtime/fault_point.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr int64_t kEarlyWrite = int64_t{1} << 20;

std::string FolderOf(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

}  // namespace

absl::Status FileError(absl::string_view path, absl::string_view what, int error) {
  const std::string message = absl::StrCat(path, ": ", what, ": ", std::strerror(error));
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return absl::NotFoundError(message);
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError(message);
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return absl::ResourceExhaustedError(absl::StrCat(message, "; free space or choose another folder"));
    default:
      return absl::FailedPreconditionError(message);
  }
}

DurableFile::DurableFile(std::string path, std::string temporary, int descriptor)
    : path_(std::move(path)), temporary_(std::move(temporary)), descriptor_(descriptor) {}

absl::StatusOr<std::unique_ptr<DurableFile>> DurableFile::Create(std::string path) {
  // The process id keeps two writers of the same name apart.
  std::string temporary = absl::StrCat(path, ".", getpid(), ".tmp");
  FaultPoint("file.create");
  const int descriptor = open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor < 0) return FileError(path, "can't create the file", errno);
  return absl::WrapUnique(new DurableFile(std::move(path), std::move(temporary), descriptor));
}

DurableFile::~DurableFile() {
  if (descriptor_ < 0) return;
  close(descriptor_);
  unlink(temporary_.c_str());
}

absl::Status DurableFile::Append(const void* data, int64_t bytes) { return WriteAt(size_, data, bytes); }

absl::Status DurableFile::WriteAt(int64_t offset, const void* data, int64_t bytes) {
  const char* from = static_cast<const char*>(data);
  const int64_t end = offset + bytes;
  while (offset < end) {
    FaultPoint("file.write");
    const ssize_t written = pwrite(descriptor_, from, static_cast<size_t>(end - offset), offset);
    if (written < 0) {
      if (errno == EINTR) continue;
      return FileError(path_, "can't write", errno);
    }
    offset += written;
    from += written;
  }
  // The disk begins at once, rather than with all of it at Commit, and less memory waits for it. No matter where that
  // is not possible.
  if (bytes >= kEarlyWrite) sync_file_range(descriptor_, end - bytes, bytes, SYNC_FILE_RANGE_WRITE);
  size_ = std::max(size_, end);
  return absl::OkStatus();
}

absl::Status DurableFile::Commit() {
  FaultPoint("file.sync");
  if (fsync(descriptor_) != 0) return FileError(path_, "can't flush to disk", errno);
  if (close(std::exchange(descriptor_, -1)) != 0) {
    const int error = errno;
    unlink(temporary_.c_str());
    return FileError(path_, "can't close", error);
  }
  FaultPoint("file.rename");
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int error = errno;
    unlink(temporary_.c_str());
    return FileError(path_, "can't rename the complete file to its name", error);
  }
  return SyncFolder(FolderOf(path_));
}

absl::Status WriteDurably(const std::string& path, absl::string_view contents) {
  ISTHMUS_ASSIGN_OR_RETURN(const auto file, DurableFile::Create(path));
  ISTHMUS_RETURN_IF_ERROR(file->Append(contents.data(), static_cast<int64_t>(contents.size())));
  return file->Commit();
}

absl::Status SyncFolder(const std::string& folder) {
  const int descriptor = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return FileError(folder, "can't open the folder", errno);
  FaultPoint("file.sync_folder");
  const int result = fsync(descriptor), error = errno;
  close(descriptor);
  // Some network file systems can't flush folders; the rename is as durable there as it gets.
  if (result != 0 && error != EINVAL) return FileError(folder, "can't flush the folder to disk", error);
  return absl::OkStatus();
}

absl::Status MakeFolder(const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return FileError(folder, "can't create the folder", error.value());
  if (!std::filesystem::is_directory(folder, error)) return FileError(folder, "is not a folder", ENOTDIR);
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t most) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return FileError(path, "can't open the file", errno);
  const auto close_it = absl::MakeCleanup([descriptor] { close(descriptor); });
  const auto too_large = [&](absl::string_view found) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": has ", found, " bytes; accepts at most ", most));
  };
  std::string contents;
  struct stat information {};
  if (fstat(descriptor, &information) == 0 && S_ISREG(information.st_mode)) {
    if (information.st_size > most) return too_large(absl::StrCat(information.st_size));
    contents.reserve(static_cast<size_t>(information.st_size));
  }
  char buffer[1 << 16];
  ssize_t got = 0;
  while ((got = read(descriptor, buffer, sizeof(buffer))) != 0) {
    if (got < 0) {
      if (errno == EINTR) continue;
      return FileError(path, "can't read", errno);
    }
    // What has no size, or grows, is seen by what it gives.
    if (got > most - static_cast<int64_t>(contents.size())) return too_large(absl::StrCat("more than ", most));
    contents.append(buffer, static_cast<size_t>(got));
  }
  return contents;
}

}  // namespace isthmus
