// Reads files of a checkpoint without trust in who wrote them, or in what their names stand for.
#ifndef ISTHMUS_CHECKPOINT_STORED_FILE_H_
#define ISTHMUS_CHECKPOINT_STORED_FILE_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include <cstdint>
#include <optional>
#include <string>

namespace isthmus {

// Checks that `name` names a file in the checkpoint's own folder. It must have no path, and no character that a
// terminal obeys. Errors: DataLoss.
absl::Status CheckFileName(absl::string_view name);

// This is the text about bytes whose checksum is wrong.
inline constexpr char kDamagedBytes[] = "the checksum is wrong: the file is damaged; use another checkpoint";
// Compares a file's size with the manifest's. Errors: DataLoss.
absl::Status CheckFileSize(const std::string& path, int64_t found, int64_t stated);

struct StoredFile {
  int descriptor = -1;
  int64_t size = 0;
};
// Opens a regular file for reading. It never waits, as opening a pipe would. Errors: by errno; FailedPrecondition if
// `path` is no file, or a link that leads nowhere: its disk may be missing for now.
absl::StatusOr<StoredFile> OpenStoredFile(const std::string& path);

// Reads the whole file. Errors: as above; DataLoss, before memory is allocated, if it has more than `most` bytes.
absl::StatusOr<std::string> ReadStoredFile(const std::string& path, int64_t most);

// StoredBytes is a range of bytes in a checkpoint's file, and the content that it must have. It is attached to the
// error that it caused (PlaceOf), so that other ranks can check the same range.
struct StoredBytes {
  std::string file;
  std::optional<int64_t> file_size;  // version 1 does not state it
  int64_t offset = 0, size = 0;
  std::optional<uint64_t> checksum;  // XXH3-64
};
absl::Status WithPlace(absl::Status status, const StoredBytes& place);
std::optional<StoredBytes> PlaceOf(const absl::Status& status);
// These convert a range to text and back, to send it to other ranks.
std::string Packed(const StoredBytes& place);
std::optional<StoredBytes> UnpackedBytes(const std::string& text);

// Reads and checks the bytes with little memory. Errors: as OpenStoredFile; DataLoss naming the file.
absl::Status CheckStoredBytes(const std::string& folder, const StoredBytes& bytes);

}  // namespace isthmus

#endif  // ISTHMUS_CHECKPOINT_STORED_FILE_H_
