#include "runtime/set_aside.h"

#include <absl/strings/str_cat.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "runtime/durable_file.h"

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

absl::StatusOr<std::string> NameAside(const std::string& path) {
  std::string aside = FreeName(path);
  return link(path.c_str(), aside.c_str()) == 0 ? aside : SetAside(path);
}

}  // namespace isthmus
