#include "launch/watch/checked_page.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <system_error>

#include "runtime/crc32c.h"
#include "runtime/durable_file.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr size_t kPage = 4096;
// This is far more than any page has.
constexpr int64_t kMostPageBytes = int64_t{1} << 20;

}  // namespace

absl::Status WriteCheckedPage(const std::string& path, absl::string_view line) {
  std::string text = absl::StrFormat("%s\n%08x\n", line, Crc32c(line));
  text.resize((text.size() + kPage - 1) / kPage * kPage, ' ');
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0666);
  if (file < 0) return FileError(path, "can't open the file", errno);
  absl::Status status;
  const ssize_t written = pwrite(file, text.data(), text.size(), 0);
  if (written != static_cast<ssize_t>(text.size())) {
    // A disk that fills up takes only a part.
    status = FileError(path, "can't write the file", written < 0 ? errno : ENOSPC);
  }
  if (close(file) != 0) status.Update(FileError(path, "can't write the file", errno));
  return status;
}

absl::StatusOr<std::string> ReadCheckedPage(const std::string& path) {
  // Reading a pipe would wait for ever.
  std::error_code error;
  if (std::filesystem::exists(path, error) && !std::filesystem::is_regular_file(path, error)) {
    return absl::FailedPreconditionError(absl::StrCat(path, ": is no regular file"));
  }
  ISTHMUS_ASSIGN_OR_RETURN(const std::string page, ReadFile(path, kMostPageBytes));
  const size_t end = page.find('\n');
  std::string line = page.substr(0, end);
  if (end == std::string::npos || page.compare(end + 1, 9, absl::StrFormat("%08x\n", Crc32c(line))) != 0) {
    return absl::DataLossError(absl::StrCat(path, ": is not whole"));
  }
  return line;
}

}  // namespace isthmus
