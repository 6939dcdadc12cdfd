#include "runtime/set_aside.h"

#include <absl/strings/str_cat.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "runtime/durable_file.h"
#include "runtime/output_target.h"

namespace isthmus {
namespace {

std::string FreeName(const std::string& path) {
  std::string name;
  struct stat there {};
  for (int i = 1; name.empty() || lstat(name.c_str(), &there) == 0; ++i) name = absl::StrCat(path, ".", i);
  return name;
}

}  // namespace

absl::StatusOr<std::string> SetAside(const std::string& path) {
  std::string aside = FreeName(path);
  if (std::rename(path.c_str(), aside.c_str()) == 0) return aside;
  return FileError(path, "can't set it aside", errno);
}

absl::StatusOr<std::string> SetAsideFor(const std::string& fresh, const std::string& path) {
  std::string aside = FreeName(path);
  const bool linked = link(path.c_str(), aside.c_str()) == 0;
  if (!linked && std::rename(path.c_str(), aside.c_str()) != 0) return FileError(path, "can't set it aside", errno);
  if (std::rename(fresh.c_str(), path.c_str()) == 0) {
    // If this fails, a crash of the machine may leave the old file at its name.
    SyncFolder(FolderOf(path)).IgnoreError();
    return aside;
  }
  const int error = errno;
  const bool undone = (linked ? unlink(aside.c_str()) : std::rename(aside.c_str(), path.c_str())) == 0;
  return FileError(
      path,
      absl::StrCat("can't replace it", undone ? "" : absl::StrCat(" (it is ", linked ? "also " : "now ", aside, ")")),
      error);
}

}  // namespace isthmus
