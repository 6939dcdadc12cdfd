#include "checkpoint/stored_file.h"

#include <absl/cleanup/cleanup.h>
#include <absl/strings/cord.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <vector>

#include "runtime/durable_file.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr size_t kLongestName = 255;
constexpr int64_t kBlock = int64_t{1} << 22;
constexpr char kPlace[] = "isthmus/stored-bytes";

bool LeadsNowhere(const std::string& path) {
  struct stat name {};
  struct stat target {};
  return lstat(path.c_str(), &name) == 0 && S_ISLNK(name.st_mode) && stat(path.c_str(), &target) != 0;
}

// Says why `path` can't be opened. A link's target may be there again tomorrow.
absl::Status OpenError(const std::string& path, int error) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  for (const std::string& name : {path, folder}) {
    if (error != ENOENT || name.empty() || !LeadsNowhere(name)) continue;
    return absl::FailedPreconditionError(
        absl::StrCat(path, ": can't open: ", name, " is a link that leads nowhere (is its disk mounted?)"));
  }
  return FileError(path, "can't open", error);
}

// Reads bytes [offset, offset + size), as far as the file has them.
absl::StatusOr<int64_t> ReadBytes(const std::string& path, int descriptor, int64_t offset, int64_t size, char* to) {
  int64_t done = 0;
  while (done < size) {
    const ssize_t got = pread(descriptor, to + done, static_cast<size_t>(size - done), offset + done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return FileError(path, "can't read", errno);
    if (got == 0) break;
    done += got;
  }
  return done;
}

}  // namespace

absl::Status CheckFileName(absl::string_view name) {
  const bool plain = !name.empty() && name.size() <= kLongestName && name != "." && name != ".." &&
                     std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c < 0x7f && c != '/'; });
  if (plain) return absl::OkStatus();
  return absl::DataLossError(
      "it names a file that is none of the checkpoint's folder; accepted: a name without a path");
}

absl::Status CheckFileSize(const std::string& path, int64_t found, int64_t stated) {
  if (found == stated) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(path, ": ", found < stated ? "truncated: " : "too long: ", found,
                                          " bytes, the manifest says ", stated));
}

absl::StatusOr<StoredFile> OpenStoredFile(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (descriptor < 0) return OpenError(path, errno);
  struct stat state {};
  if (fstat(descriptor, &state) != 0) {
    const int error = errno;
    close(descriptor);
    return FileError(path, "can't read", error);
  }
  if (S_ISREG(state.st_mode)) return StoredFile{descriptor, state.st_size};
  close(descriptor);
  if (S_ISDIR(state.st_mode)) return FileError(path, "can't read", EISDIR);
  return absl::FailedPreconditionError(absl::StrCat(path, ": is a pipe, a device or a socket, not a file"));
}

absl::StatusOr<std::string> ReadStoredFile(const std::string& path, int64_t most) {
  ISTHMUS_ASSIGN_OR_RETURN(const StoredFile file, OpenStoredFile(path));
  const absl::Cleanup closing = [&] { close(file.descriptor); };
  if (file.size > most) {
    return absl::DataLossError(absl::StrCat(path, ": has ", file.size, " bytes; accepted: at most ", most));
  }
  std::string contents(static_cast<size_t>(file.size), '\0');
  ISTHMUS_ASSIGN_OR_RETURN(const int64_t got, ReadBytes(path, file.descriptor, 0, file.size, contents.data()));
  contents.resize(static_cast<size_t>(got));
  return contents;
}

absl::Status CheckStoredBytes(const std::string& folder, const StoredBytes& bytes) {
  const std::string path = folder + "/" + bytes.file;
  ISTHMUS_ASSIGN_OR_RETURN(const StoredFile file, OpenStoredFile(path));
  const absl::Cleanup closing = [&] { close(file.descriptor); };
  if (bytes.file_size.has_value()) ISTHMUS_RETURN_IF_ERROR(CheckFileSize(path, file.size, *bytes.file_size));
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> hash(XXH3_createState(), &XXH3_freeState);
  if (hash == nullptr) return absl::ResourceExhaustedError(absl::StrCat(path, ": no memory to check it"));
  XXH3_64bits_reset(hash.get());
  std::vector<char> block(static_cast<size_t>(std::min(kBlock, bytes.size)));
  for (int64_t done = 0; done < bytes.size;) {
    const int64_t next = std::min(kBlock, bytes.size - done);
    ISTHMUS_ASSIGN_OR_RETURN(const int64_t got,
                             ReadBytes(path, file.descriptor, bytes.offset + done, next, block.data()));
    if (got < next) return absl::DataLossError(absl::StrCat(path, ": truncated"));
    XXH3_64bits_update(hash.get(), block.data(), static_cast<size_t>(next));
    done += next;
  }
  if (bytes.checksum.has_value() && XXH3_64bits_digest(hash.get()) != *bytes.checksum) {
    return absl::DataLossError(absl::StrCat(path, ": ", kDamagedBytes));
  }
  return absl::OkStatus();
}

std::string Packed(const StoredBytes& place) {
  return absl::StrCat(place.file_size.value_or(-1), "\n", place.offset, "\n", place.size, "\n",
                      place.checksum.has_value() ? absl::StrCat(*place.checksum) : "", "\n", place.file);
}

std::optional<StoredBytes> UnpackedBytes(const std::string& text) {
  const std::vector<std::string> fields = absl::StrSplit(text, absl::MaxSplits('\n', 4));
  StoredBytes place;
  int64_t file_size = -1;
  uint64_t checksum = 0;
  if (fields.size() != 5 || !absl::SimpleAtoi(fields[0], &file_size) || !absl::SimpleAtoi(fields[1], &place.offset) ||
      !absl::SimpleAtoi(fields[2], &place.size)) {
    return std::nullopt;
  }
  if (file_size >= 0) place.file_size = file_size;
  if (absl::SimpleAtoi(fields[3], &checksum)) place.checksum = checksum;
  place.file = fields[4];
  return place;
}

absl::Status WithPlace(absl::Status status, const StoredBytes& place) {
  status.SetPayload(kPlace, absl::Cord(Packed(place)));
  return status;
}

std::optional<StoredBytes> PlaceOf(const absl::Status& status) {
  const auto text = status.GetPayload(kPlace);
  return text.has_value() ? UnpackedBytes(std::string(*text)) : std::nullopt;
}

}  // namespace isthmus
