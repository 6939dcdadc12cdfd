#include "runtime/output_target.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/vfs.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "runtime/durable_file.h"

namespace isthmus {
namespace {

constexpr int kMostLinks = 40;  // as Linux has it

// Links of /proc are not followed by their text, which may name a pipe, or a file that no longer exists.
bool IsOnProc(const std::string& path) {
  struct statfs system {};
  return statfs(FolderOf(path).c_str(), &system) == 0 && system.f_type == PROC_SUPER_MAGIC;
}

// Returns the number of this process's open file that a link of /proc stands for, or -1 for other links.
int DescriptorOf(const std::string& link) {
  std::error_code error;
  const auto folder = std::filesystem::canonical(FolderOf(link), error);
  int number = -1;
  for (const char* own : {"/proc/self/fd", "/proc/thread-self/fd"}) {
    if (error || folder != std::filesystem::canonical(own, error) || error) continue;
    if (absl::SimpleAtoi(std::filesystem::path(link).filename().string(), &number)) return number;
  }
  return -1;
}

absl::Status Refuse(const std::string& path, absl::string_view what) {
  return absl::FailedPreconditionError(absl::StrCat(path, ": ", what, "; name a file"));
}

absl::StatusOr<OutputTarget> Describe(const std::string& path, OutputTarget target) {
  const mode_t mode = target.status.st_mode;
  if (S_ISDIR(mode)) return Refuse(path, "is a folder");
  if (S_ISSOCK(mode) && target.descriptor < 0) return Refuse(path, "is a socket");
  if (S_ISBLK(mode)) return Refuse(path, "is a block device, a disk for example");
  if (target.descriptor >= 0) {
    target.kind = OutputTarget::Kind::kDescriptor;
  } else {
    target.kind = S_ISREG(mode) ? OutputTarget::Kind::kFile : OutputTarget::Kind::kStream;
  }
  return target;
}

absl::StatusOr<OutputTarget> DescribeNew(const std::string& path, OutputTarget target) {
  if (target.path.ends_with('/')) return Refuse(path, "is the name of a folder");
  struct stat folder {};
  if (stat(FolderOf(target.path).c_str(), &folder) != 0) {
    return FileError(path, absl::StrCat("can't write to the folder ", FolderOf(target.path)), errno);
  }
  return target;
}

absl::StatusOr<OutputTarget> DescribeProcLink(const std::string& path, OutputTarget target) {
  target.may_replace = false;
  target.descriptor = DescriptorOf(target.path);
  if (target.descriptor < 0) {
    if (stat(target.path.c_str(), &target.status) != 0) return FileError(path, "can't follow the link", errno);
    return Describe(path, std::move(target));
  }
  const int flags = fcntl(target.descriptor, F_GETFL);
  if (flags < 0 || fstat(target.descriptor, &target.status) != 0) return FileError(path, "is not open", errno);
  if ((flags & O_ACCMODE) == O_RDONLY) return FileError(path, "is not open for writing", EBADF);
  return Describe(path, std::move(target));
}

}  // namespace

std::string FolderOf(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

absl::StatusOr<OutputTarget> FindOutputTarget(const std::string& path) {
  if (path.empty()) return absl::InvalidArgumentError("found an empty path; name a file");
  OutputTarget target{.path = path};
  for (int links = 0; links <= kMostLinks; ++links) {
    if (lstat(target.path.c_str(), &target.status) != 0) {
      if (errno == ENOENT) return DescribeNew(path, std::move(target));
      return FileError(path, "can't be written", errno);
    }
    if (!S_ISLNK(target.status.st_mode)) return Describe(path, std::move(target));
    if (IsOnProc(target.path)) return DescribeProcLink(path, std::move(target));
    std::error_code error;
    const auto next = std::filesystem::read_symlink(target.path, error);
    if (error) return FileError(path, "can't read the link", error.value());
    target.path = (next.is_absolute() ? next : FolderOf(target.path) / next).string();
  }
  return FileError(path, "can't follow the link", ELOOP);
}

}  // namespace isthmus
