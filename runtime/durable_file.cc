#include "runtime/durable_file.h"

#include <absl/cleanup/cleanup.h>
#include <absl/memory/memory.h>
#include <absl/strings/str_cat.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <utility>
#include <vector>

#include "runtime/fault_point.h"
#include "runtime/status.h"
#include "runtime/stop_signals.h"
#include "runtime/write_all.h"

namespace isthmus {
namespace {

constexpr int64_t kEarlyWrite = int64_t{1} << 20;

// The process id keeps two writers of the same name apart. Long names are shortened to leave room for it.
std::string TemporaryName(const std::string& path) {
  constexpr size_t kLongest = 200;
  const std::string name = std::filesystem::path(path).filename().string();
  return absl::StrCat(FolderOf(path), "/", name.substr(0, kLongest), ".", getpid(), ".tmp");
}

int OpenNew(const std::string& path) { return open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644); }

// Makes a temporary file for one whose folder allows none. Takes memory where TMPDIR allows none either; `path` is
// empty then. Returns a descriptor; -1 with errno.
int OpenElsewhere(std::string& path) {
  const char* folder = std::getenv("TMPDIR");
  path = absl::StrCat(folder != nullptr && *folder != '\0' ? folder : "/tmp", "/isthmus.XXXXXX");
  if (const int descriptor = mkostemp(path.data(), O_CLOEXEC); descriptor >= 0) return descriptor;
  path.clear();
  return memfd_create("isthmus", MFD_CLOEXEC);
}

// Asks the disk for `bytes` of room for a file. Returns 0 if it has that, or can't tell; else errno.
int Reserve(int descriptor, int64_t bytes) {
  if (bytes == 0 || fallocate(descriptor, FALLOC_FL_KEEP_SIZE, 0, bytes) == 0) return 0;
  return errno == ENOSPC || errno == EDQUOT || errno == EFBIG ? errno : 0;
}

// Waits until there is something to read, or all writers are gone.
absl::Status AwaitInput(int descriptor, const std::string& path) {
  constexpr int kMilliseconds = 100;
  pollfd ready{.fd = descriptor, .events = POLLIN, .revents = 0};
  while (poll(&ready, 1, kMilliseconds) <= 0) {
    if (const int signal = StopSignals::latest(); signal != 0) {
      return absl::CancelledError(
          absl::StrCat(path, ": stopped by ", SignalName(signal), " while nothing was written to it"));
    }
  }
  return absl::OkStatus();
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

bool IsOfTheFolder(int error) { return error == EACCES || error == EPERM || error == EROFS || error == EBUSY; }

absl::StatusOr<std::unique_ptr<DurableFile>> DurableFile::Create(std::string path, FileOwner owner) {
  auto file = absl::WrapUnique(new DurableFile(std::move(path), owner));
  ISTHMUS_ASSIGN_OR_RETURN(file->target_, FindOutputTarget(file->path_));
  const OutputTarget& target = file->target_;
  FaultPoint("file.create");
  if (target.kind == OutputTarget::Kind::kStream || target.kind == OutputTarget::Kind::kDescriptor) {
    ISTHMUS_RETURN_IF_ERROR(file->OpenStream(target));
  } else if (target.may_replace) {
    ISTHMUS_RETURN_IF_ERROR(file->OpenTemporary());
  } else {
    ISTHMUS_RETURN_IF_ERROR(file->OpenCopy());
  }
  return file;
}

absl::Status DurableFile::OpenStream(const OutputTarget& target) {
  way_ = Way::kStream;
  if (target.kind == OutputTarget::Kind::kDescriptor) {
    // Opening it anew would start at the file's beginning, and might not be allowed.
    descriptor_ = fcntl(target.descriptor, F_DUPFD_CLOEXEC, 0);
  } else {
    const bool waits = owner_ == FileOwner::kUser;
    descriptor_ = open(target.path.c_str(), O_WRONLY | O_NOCTTY | O_CLOEXEC | (waits ? 0 : O_NONBLOCK));
    if (descriptor_ < 0 && errno == ENXIO && S_ISFIFO(target.status.st_mode)) {
      return absl::FailedPreconditionError(absl::StrCat(path_, ": is a pipe that nobody reads"));
    }
    if (descriptor_ >= 0 && !waits) fcntl(descriptor_, F_SETFL, O_WRONLY);
  }
  return descriptor_ < 0 ? FileError(path_, "can't open", errno) : absl::OkStatus();
}

absl::Status DurableFile::OpenTemporary() {
  temporary_ = TemporaryName(target_.path);
  descriptor_ = OpenNew(temporary_);
  if (descriptor_ < 0 && errno == EEXIST && unlink(temporary_.c_str()) == 0) descriptor_ = OpenNew(temporary_);
  const bool there = target_.kind == OutputTarget::Kind::kFile;
  if (descriptor_ >= 0) {
    if (there) TakeAfter(target_.status);
    if (way_ != Way::kCopy || faccessat(AT_FDCWD, target_.path.c_str(), W_OK, AT_EACCESS) == 0) return absl::OkStatus();
    return FileError(path_, "can't be written", errno);
  }
  temporary_.clear();
  return there && IsOfTheFolder(errno) ? OpenCopy() : FileError(path_, "can't create the file", errno);
}

absl::Status DurableFile::OpenCopy() {
  const int there = open(target_.path.c_str(), O_WRONLY | O_CLOEXEC);
  if (there < 0) return FileError(path_, "can't open the file", errno);
  close(there);
  way_ = Way::kCopy;
  elsewhere_ = true;
  descriptor_ = OpenElsewhere(temporary_);
  return descriptor_ < 0 ? FileError(path_, "can't make a temporary file (TMPDIR names its folder)", errno)
                         : absl::OkStatus();
}

void DurableFile::TakeAfter(const struct stat& before) {
  struct stat now {};
  const bool mine = fstat(descriptor_, &now) == 0 && now.st_uid == before.st_uid && now.st_gid == before.st_gid;
  const bool alike = mine || fchown(descriptor_, before.st_uid, before.st_gid) == 0;
  // The mode is set after the owner, because a change of owner clears mode bits.
  const bool same_mode = fchmod(descriptor_, before.st_mode & 07777) == 0;
  if (owner_ == FileOwner::kUser && (before.st_nlink > 1 || !alike || !same_mode)) way_ = Way::kCopy;
}

DurableFile::~DurableFile() {
  if (descriptor_ < 0) return;
  close(descriptor_);
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

absl::Status DurableFile::Append(const void* data, int64_t bytes) { return WriteAt(size_, data, bytes); }

absl::Status DurableFile::WriteAt(int64_t offset, const void* data, int64_t bytes) {
  const int64_t end = offset + bytes;
  if (way_ == Way::kStream) {
    if (offset != size_) {
      return absl::FailedPreconditionError(
          absl::StrCat(path_, ": is a pipe or a device, and this format needs a file"));
    }
  }
  if (bytes > 0) FaultPoint("file.write");
  const absl::string_view text(static_cast<const char*>(data), static_cast<size_t>(bytes));
  const Written written = way_ == Way::kStream ? WriteAll(descriptor_, text) : WriteAllAt(descriptor_, text, offset);
  if (written.error != 0) return FileError(path_, CanNot("write"), written.error);
  // The disk begins at once rather than with all of it at Commit, and less memory waits for it. An error here does no
  // harm.
  // is not possible.
  if (bytes >= kEarlyWrite && way_ != Way::kStream)
    sync_file_range(descriptor_, end - bytes, bytes, SYNC_FILE_RANGE_WRITE);
  size_ = std::max(size_, end);
  return absl::OkStatus();
}

absl::Status DurableFile::Commit() {
  FaultPoint("file.sync");
  if (way_ != Way::kStream && fsync(descriptor_) != 0) return FileError(path_, CanNot("flush to disk"), errno);
  if (way_ == Way::kCopy) return CopyInPlace();
  if (close(std::exchange(descriptor_, -1)) != 0) {
    const int error = errno;
    if (!temporary_.empty()) unlink(temporary_.c_str());
    return FileError(path_, "can't close", error);
  }
  return way_ == Way::kRename ? Rename() : absl::OkStatus();
}

absl::Status DurableFile::Rename() {
  FaultPoint("file.rename");
  if (std::rename(temporary_.c_str(), target_.path.c_str()) == 0) return SyncFolder(FolderOf(target_.path));
  const int error = errno;
  if (target_.kind == OutputTarget::Kind::kFile && IsOfTheFolder(error)) {
    descriptor_ = open(temporary_.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor_ >= 0) return CopyInPlace();
  }
  return Failed("can't rename the complete file to its name", error, /*damaged=*/false);
}

absl::Status DurableFile::CopyInPlace() {
  const int from = std::exchange(descriptor_, -1);
  const int to = open(target_.path.c_str(), O_WRONLY | O_CLOEXEC);
  int error = to < 0 ? errno : Reserve(to, size_);
  int64_t at = 0;  // bytes of the file that is there have been overwritten
  std::vector<char> block(kEarlyWrite);
  while (error == 0 && at < size_) {
    const ssize_t got = pread(from, block.data(), block.size(), at);
    if (got <= 0) {
      error = got < 0 ? errno : EIO;
      break;
    }
    const Written written = WriteAll(to, {block.data(), static_cast<size_t>(got)});
    error = written.error;
    at += written.bytes;
  }
  if (error == 0 && (ftruncate(to, size_) != 0 || fsync(to) != 0)) error = errno;
  if (to >= 0 && close(to) != 0 && error == 0) error = errno;
  close(from);
  if (error != 0) return Failed("can't write to the file that is there", error, /*damaged=*/at > 0);
  unlink(temporary_.c_str());
  return absl::OkStatus();
}

std::string DurableFile::CanNot(absl::string_view what) const {
  if (!elsewhere_ || temporary_.empty()) return absl::StrCat("can't ", what);
  return absl::StrCat("can't ", what, " (first as ", temporary_, ", whose folder TMPDIR names)");
}

absl::Status DurableFile::Failed(absl::string_view what, int error, bool damaged) {
  const char* there = damaged ? ", which is damaged now" : "";
  if (!temporary_.empty() && (damaged || owner_ == FileOwner::kUser)) {
    return FileError(path_, absl::StrCat(what, there, " (", temporary_, " has all of it)"), error);
  }
  unlink(temporary_.c_str());
  return FileError(path_, absl::StrCat(what, there), error);
}

absl::Status WriteDurably(const std::string& path, absl::string_view contents, FileOwner owner) {
  ISTHMUS_ASSIGN_OR_RETURN(const auto file, DurableFile::Create(path, owner));
  ISTHMUS_RETURN_IF_ERROR(file->Append(contents.data(), static_cast<int64_t>(contents.size())));
  return file->Commit();
}

absl::Status CheckOutput(const std::string& path) {
  ISTHMUS_ASSIGN_OR_RETURN(const OutputTarget target, FindOutputTarget(path));
  if (target.kind == OutputTarget::Kind::kDescriptor) return absl::OkStatus();
  if (target.kind != OutputTarget::Kind::kStream) return DurableFile::Create(path, FileOwner::kUser).status();
  if (faccessat(AT_FDCWD, target.path.c_str(), W_OK, AT_EACCESS) == 0) return absl::OkStatus();
  return FileError(path, "can't be written", errno);
}

bool IsStandardOutput(const std::string& path) {
  struct stat named {
  }, standard{};
  return stat(path.c_str(), &named) == 0 && fstat(STDOUT_FILENO, &standard) == 0 && named.st_dev == standard.st_dev &&
         named.st_ino == standard.st_ino;
}

absl::Status SyncFolder(const std::string& folder) {
  const int descriptor = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  // A folder that may be written to but not read can't be flushed.
  if (descriptor < 0 && errno == EACCES) return absl::OkStatus();
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
  // O_NONBLOCK is needed: a pipe without a writer must not make open() wait, where no signal to stop is noticed.
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return FileError(path, "can't open the file", errno);
  const auto close_it = absl::MakeCleanup([descriptor] { close(descriptor); });
  const auto too_large = [&](absl::string_view found) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": has ", found, " bytes; accepts at most ", most));
  };
  std::string contents;
  struct stat information {};
  const bool known = fstat(descriptor, &information) == 0;
  if (known && S_ISREG(information.st_mode)) {
    if (information.st_size > most) return too_large(absl::StrCat(information.st_size));
    contents.reserve(static_cast<size_t>(information.st_size));
  }
  char buffer[1 << 16];
  ssize_t got = 0;
  for (;;) {
    // A pipe that no writer has opened yet would seem to have ended.
    if (known && S_ISFIFO(information.st_mode)) ISTHMUS_RETURN_IF_ERROR(AwaitInput(descriptor, path));
    got = read(descriptor, buffer, sizeof(buffer));
    if (got == 0) break;
    if (got < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) {
        ISTHMUS_RETURN_IF_ERROR(AwaitInput(descriptor, path));
        continue;
      }
      return FileError(path, "can't read", errno);
    }
    // The size of a file that has none, or grows, shows only when it is read.
    if (got > most - static_cast<int64_t>(contents.size())) return too_large(absl::StrCat("more than ", most));
    contents.append(buffer, static_cast<size_t>(got));
  }
  return contents;
}

}  // namespace isthmus
