// A file that appears under its name only when it is complete and on disk.
#ifndef ISTHMUS_RUNTIME_DURABLE_FILE_H_
#define ISTHMUS_RUNTIME_DURABLE_FILE_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include <cstdint>
#include <limits>
#include <memory>
#include <string>

namespace isthmus {

// The status for a failed system call on `path`: the code by errno (NotFound, PermissionDenied, ResourceExhausted when
// the disk is full, ...), the message "path: what: reason".
absl::Status FileError(absl::string_view path, absl::string_view what, int error);

// Written under a temporary name in the same folder, then flushed to disk and renamed by Commit. Without Commit nothing
// remains, and a file that had the name before is untouched.
class DurableFile {
 public:
  // Errors: by errno, naming the path.
  static absl::StatusOr<std::unique_ptr<DurableFile>> Create(std::string path);
  ~DurableFile();
  DurableFile(const DurableFile&) = delete;
  DurableFile& operator=(const DurableFile&) = delete;

  absl::Status Append(const void* data, int64_t bytes);
  // Bytes [offset, offset + bytes); holes read as zero.
  absl::Status WriteAt(int64_t offset, const void* data, int64_t bytes);
  // Flushes file and folder; afterwards the file has its name.
  absl::Status Commit();

  int64_t size() const { return size_; }
  const std::string& path() const { return path_; }

 private:
  DurableFile(std::string path, std::string temporary, int descriptor);

  std::string path_;
  std::string temporary_;
  int descriptor_;
  int64_t size_ = 0;
};

// The whole contents at once.
absl::Status WriteDurably(const std::string& path, absl::string_view contents);

// Flushes a folder's entries to disk.
absl::Status SyncFolder(const std::string& folder);

// Creates a folder and its parents; an existing one is fine.
absl::Status MakeFolder(const std::string& folder);

// The whole file. `most`: bytes that what is read may have; a caller knows what is sensible, and a device or a pipe may
// have no end. Errors: by errno; InvalidArgument with the size that was found, or that there are more, and `most`.
absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t most = std::numeric_limits<int64_t>::max());

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_DURABLE_FILE_H_
