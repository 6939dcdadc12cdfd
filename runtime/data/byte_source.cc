#include "runtime/data/byte_source.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/string_view.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "runtime/data/compressed_source.h"
#include "runtime/durable_file.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

class PlainSource : public ByteSource {
 public:
  PlainSource(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}
  ~PlainSource() override { close(descriptor_); }
  PlainSource(const PlainSource&) = delete;
  PlainSource& operator=(const PlainSource&) = delete;

  // Call this first. It reads up to `count` bytes, which Read will return again.
  absl::Status Start(size_t count) {
    struct stat information;
    if (fstat(descriptor_, &information) != 0) return FileError(path_, "can't open the file", errno);
    if (S_ISDIR(information.st_mode)) return FileError(path_, "can't open the file", EISDIR);
    if (S_ISREG(information.st_mode)) least_bytes_ = information.st_size;
    while (first_.size() < count) {
      char buffer[16];
      ISTHMUS_ASSIGN_OR_RETURN(const int64_t got,
                               ReadMore(buffer, static_cast<int64_t>(std::min(sizeof(buffer), count - first_.size()))));
      if (got == 0) break;
      first_.append(buffer, static_cast<size_t>(got));
    }
    return absl::OkStatus();
  }
  absl::string_view first() const { return first_; }

  absl::StatusOr<int64_t> Read(char* to, int64_t capacity) override {
    if (returned_ < first_.size()) {
      const size_t count = first_.copy(to, static_cast<size_t>(capacity), returned_);
      returned_ += count;
      return static_cast<int64_t>(count);
    }
    return ReadMore(to, capacity);
  }

 private:
  absl::StatusOr<int64_t> ReadMore(char* to, int64_t capacity) {
    while (true) {
      const ssize_t got = read(descriptor_, to, static_cast<size_t>(capacity));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return FileError(path_, "can't read", errno);
      bytes_ += got;
      if (got == 0 && bytes_ < least_bytes_) {
        return absl::DataLossError(absl::StrCat(path_, ": ends at byte ", bytes_, " and had ", least_bytes_,
                                                " bytes when it was opened: it was cut while it was read"));
      }
      return static_cast<int64_t>(got);
    }
  }

  std::string path_;
  int descriptor_;
  int64_t least_bytes_ = 0;  // the size of the file when it was opened
  int64_t bytes_ = 0;
  std::string first_;
  size_t returned_ = 0;  // bytes of `first_`
};

bool IsGzip(absl::string_view first) { return absl::StartsWith(first, "\x1F\x8B"); }

// True for a frame, and for a skippable frame, with which pzstd begins its files.
bool IsZstd(absl::string_view first) {
  if (absl::StartsWith(first, "\x28\xB5\x2F\xFD")) return true;
  return first.size() >= 4 && (first[0] & 0xF0) == 0x50 && first.substr(1, 3) == "\x2A\x4D\x18";
}

// Returns true for a beginning that the functions above would recognise, cut before its end.
bool IsCut(absl::string_view first) {
  if (first.empty() || first.size() >= 4) return false;
  return first == "\x1F" || absl::StartsWith("\x28\xB5\x2F", first) ||
         ((first[0] & 0xF0) == 0x50 && absl::StartsWith("\x2A\x4D", first.substr(1)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ByteSource>> ByteSource::Open(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return FileError(path, "can't open the file", errno);
  auto plain = std::make_unique<PlainSource>(path, descriptor);
  ISTHMUS_RETURN_IF_ERROR(plain->Start(4));
  const std::string first(plain->first());
  if (IsGzip(first)) return GzipSource(path, std::move(plain));
  if (IsZstd(first)) return ZstdSource(path, std::move(plain));
  const bool named_compressed = absl::EndsWith(path, ".gz") || absl::EndsWith(path, ".zst");
  if (named_compressed && first.empty()) {
    return absl::DataLossError(
        absl::StrCat(path, ": is empty, but a compressed file of no text is not: copy it again"));
  }
  if (named_compressed && IsCut(first)) {
    return absl::DataLossError(absl::StrCat(path, ": has ", first.size(),
                                            " bytes, with which compressed data begins: the rest is missing; copy it "
                                            "again"));
  }
  // Text with such a name is read as it is. Text has none of these characters.
  const auto no_text = [](char c) { return c >= 0 && c < 8; };
  if (named_compressed && std::any_of(first.begin(), first.end(), no_text)) {
    return absl::DataLossError(
        absl::StrCat(path, ": is neither gzip nor Zstandard data nor text: it is damaged; copy it again"));
  }
  return plain;
}

}  // namespace isthmus
