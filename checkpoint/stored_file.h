// Files of a checkpoint as they are found: whoever wrote them, whatever stands under their names.
#ifndef ISTHMUS_CHECKPOINT_STORED_FILE_H_
#define ISTHMUS_CHECKPOINT_STORED_FILE_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include <cstdint>
#include <optional>
#include <string>

namespace isthmus {

// The name of a file in a checkpoint's own folder: no path, nothing that a terminal would obey. Errors: DataLoss.
absl::Status CheckFileName(absl::string_view name);

struct StoredFile {
  int descriptor = -1;
  int64_t size = 0;
};
// Opens a regular file for reading, and waits for nobody, as a pipe would. Errors: by errno; FailedPrecondition for
// what is no file, and for a link that leads nowhere: its disk may be missing for now.
absl::StatusOr<StoredFile> OpenStoredFile(const std::string& path);

// The whole file. Errors: as above; DataLoss, before any memory is asked for, when it has more than `most` bytes.
absl::StatusOr<std::string> ReadStoredFile(const std::string& path, int64_t most);

// Bytes of a file of a checkpoint, and what they must be. It travels with an error that it is the reason of (PlaceOf),
// so that others can look at the same place.
struct StoredBytes {
  std::string file;
  std::optional<int64_t> file_size;  // version 1 does not state it
  int64_t offset = 0, size = 0;
  std::optional<uint64_t> checksum;  // XXH3-64
};
absl::Status WithPlace(absl::Status status, const StoredBytes& place);
std::optional<StoredBytes> PlaceOf(const absl::Status& status);
// For other ranks.
std::string Packed(const StoredBytes& place);
std::optional<StoredBytes> UnpackedBytes(const std::string& text);

// Reads and checks them with little memory. Errors: as OpenStoredFile; DataLoss naming the file.
absl::Status CheckStoredBytes(const std::string& folder, const StoredBytes& bytes);

}  // namespace isthmus

#endif  // ISTHMUS_CHECKPOINT_STORED_FILE_H_
