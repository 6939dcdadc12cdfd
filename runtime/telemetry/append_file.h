// A file that grows by whole pieces.
#ifndef ISTHMUS_RUNTIME_TELEMETRY_APPEND_FILE_H_
#define ISTHMUS_RUNTIME_TELEMETRY_APPEND_FILE_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include <cstdint>
#include <memory>
#include <string>

namespace isthmus {

class AppendFile {
 public:
  // Makes the file. Errors: AlreadyExists when there is one; by errno.
  static absl::StatusOr<std::unique_ptr<AppendFile>> Create(const std::string& path);
  // Appends to the first `bytes` of a file, and cuts off the rest. Makes the file if there is none. Errors: by errno.
  static absl::StatusOr<std::unique_ptr<AppendFile>> Continue(const std::string& path, int64_t bytes);
  ~AppendFile();
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;

  // Appends all of `piece`, or nothing: half a piece would spoil the file for its readers. Errors: by errno.
  absl::Status Append(absl::string_view piece);

 private:
  AppendFile(std::string path, int descriptor, int64_t bytes)
      : path_(std::move(path)), descriptor_(descriptor), bytes_(bytes) {}

  std::string path_;
  int descriptor_;
  int64_t bytes_;
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_TELEMETRY_APPEND_FILE_H_
