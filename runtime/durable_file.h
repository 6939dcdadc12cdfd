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
#include <utility>

#include "runtime/output_target.h"

namespace isthmus {

// Returns the status for a failed system call on `path`. Its code follows from errno: NotFound, PermissionDenied,
// ResourceExhausted when the disk is full, ... Its message is "path: what: reason".
absl::Status FileError(absl::string_view path, absl::string_view what, int error);

// Returns true for an errno by which a folder forbids making or replacing a file in it. An existing file can perhaps be
// written in place then.
bool IsOfTheFolder(int error);

// The owner of the written file.
enum class FileOwner {
  kProgram,  // a file of a run folder. Other hard links to it keep their contents (a copy by `cp -al`). A pipe that
             // nobody reads is an error.
  kUser,     // a path that a user gave. Other hard links see the new contents. A pipe is opened once somebody reads it.
             // The complete temporary file stays if it can't get its name, and the error names it.
};

// A file that is written under a temporary name in the same folder, then flushed to disk and renamed by Commit. Without
// Commit nothing remains, and a file that had the name before is untouched. Symbolic links are followed, even if they
// lead to nothing yet. An existing file's mode stays, and its owner, where the system allows that.
//
// A file that can't be replaced is overwritten: it is mounted, or its folder can't be written to. The temporary file,
// then in the folder TMPDIR or else in memory, is complete before. The disk is asked for the room. If overwriting fails
// in its middle, the error says that the file there is damaged, and names the temporary file, which stays.
//
// FileOwner says what happens to other hard links. Pipes and character devices get appended bytes as they come.
class DurableFile {
 public:
  // Errors: those of FindOutputTarget (runtime/output_target.h); by errno, naming the path.
  static absl::StatusOr<std::unique_ptr<DurableFile>> Create(std::string path, FileOwner owner = FileOwner::kProgram);
  ~DurableFile();
  DurableFile(const DurableFile&) = delete;
  DurableFile& operator=(const DurableFile&) = delete;

  absl::Status Append(const void* data, int64_t bytes);
  // Writes bytes [offset, offset + bytes); holes read as zero. Errors: FailedPrecondition if a pipe or a device would
  // have to go back.
  absl::Status WriteAt(int64_t offset, const void* data, int64_t bytes);
  // Flushes file and folder; afterwards the file has its name.
  absl::Status Commit();

  int64_t size() const { return size_; }
  const std::string& path() const { return path_; }

 private:
  enum class Way { kRename, kCopy, kStream };
  DurableFile(std::string path, FileOwner owner) : path_(std::move(path)), owner_(owner) {}

  absl::Status OpenStream(const OutputTarget& target);
  absl::Status OpenTemporary();
  // Opens a temporary file elsewhere, for a file that can't be replaced.
  absl::Status OpenCopy();
  // Gives the temporary file the mode and owner of the existing file.
  void TakeAfter(const struct stat& before);
  absl::Status Rename();
  // Copies the temporary file into the existing one.
  absl::Status CopyInPlace();
  // Keeps the temporary file if its owner is the user, or if nothing else is left; else removes it.
  absl::Status Failed(absl::string_view what, int error, bool damaged);
  // Returns "can't write", with the temporary file if it is elsewhere.
  std::string CanNot(absl::string_view what) const;

  std::string path_;  // as the caller gave it
  FileOwner owner_;
  OutputTarget target_;
  std::string temporary_;   // empty: none, or one without a name
  bool elsewhere_ = false;  // the temporary file is not in the folder
  Way way_ = Way::kRename;
  int descriptor_ = -1;
  int64_t size_ = 0;
};

// Writes the whole contents at once.
absl::Status WriteDurably(const std::string& path, absl::string_view contents, FileOwner owner = FileOwner::kProgram);

// Checks whether WriteDurably to a path that a user gave can succeed. Call it before the work whose result goes there.
// A pipe is not opened. Errors: those of DurableFile::Create.
absl::Status CheckOutput(const std::string& path);

// Returns true if text written to `path` comes out where standard output does. Nothing else should go there then.
bool IsStandardOutput(const std::string& path);

// Flushes a folder's entries to disk.
absl::Status SyncFolder(const std::string& folder);

// Creates a folder and its parents; an existing one is fine.
absl::Status MakeFolder(const std::string& folder);

// Reads the whole file, at most `most` bytes. The caller knows a sensible limit, and a device or a pipe may have no
// end. A pipe is read until its writers are gone. Errors: by errno; InvalidArgument with `most` and the size that was
// found, or the fact that there is more. Cancelled is the error if a signal to stop comes while nothing is written to a
// pipe.
absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t most = std::numeric_limits<int64_t>::max());

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_DURABLE_FILE_H_
