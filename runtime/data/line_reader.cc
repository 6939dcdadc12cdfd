#include "runtime/data/line_reader.h"

#include <absl/memory/memory.h>
#include <absl/strings/str_cat.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "runtime/durable_file.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

class PlainSource : public ByteSource {
 public:
  PlainSource(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}
  ~PlainSource() override { close(descriptor_); }

  absl::StatusOr<int64_t> Read(char* to, int64_t capacity) override {
    while (true) {
      const ssize_t got = read(descriptor_, to, static_cast<size_t>(capacity));
      if (got >= 0) return static_cast<int64_t>(got);
      if (errno != EINTR) return FileError(path_, "can't read", errno);
    }
  }

 private:
  std::string path_;
  int descriptor_;
};

class GzipSource : public ByteSource {
 public:
  GzipSource(std::string path, gzFile file) : path_(std::move(path)), file_(file) { gzbuffer(file_, 1 << 17); }
  ~GzipSource() override { gzclose_r(file_); }

  absl::StatusOr<int64_t> Read(char* to, int64_t capacity) override {
    const int got = gzread(file_, to, static_cast<unsigned>(std::min<int64_t>(capacity, 1 << 30)));
    int error = Z_OK;
    const char* text = gzerror(file_, &error);
    // A truncated file yields what it has and Z_BUF_ERROR.
    if (got < 0 || error == Z_BUF_ERROR) {
      return absl::DataLossError(absl::StrCat(path_, ": damaged or truncated gzip data: ", text));
    }
    return got;
  }

 private:
  std::string path_;
  gzFile file_;
};

class ZstdSource : public ByteSource {
 public:
  ZstdSource(std::string path, std::unique_ptr<ByteSource> compressed)
      : path_(std::move(path)),
        compressed_(std::move(compressed)),
        stream_(ZSTD_createDStream(), ZSTD_freeDStream),
        buffer_(ZSTD_DStreamInSize(), '\0') {}

  absl::StatusOr<int64_t> Read(char* to, int64_t capacity) override {
    ZSTD_outBuffer out = {to, static_cast<size_t>(capacity), 0};
    while (out.pos == 0) {
      if (in_.pos == in_.size) {
        ISTHMUS_ASSIGN_OR_RETURN(const int64_t got,
                                 compressed_->Read(buffer_.data(), static_cast<int64_t>(buffer_.size())));
        if (got == 0) {
          if (frame_complete_) return 0;
          return absl::DataLossError(absl::StrCat(path_, ": truncated Zstandard data"));
        }
        in_ = {buffer_.data(), static_cast<size_t>(got), 0};
      }
      const size_t result = ZSTD_decompressStream(stream_.get(), &out, &in_);
      if (ZSTD_isError(result)) {
        return absl::DataLossError(absl::StrCat(path_, ": damaged Zstandard data: ", ZSTD_getErrorName(result)));
      }
      frame_complete_ = result == 0;
    }
    return static_cast<int64_t>(out.pos);
  }

 private:
  std::string path_;
  std::unique_ptr<ByteSource> compressed_;
  std::unique_ptr<ZSTD_DStream, decltype(&ZSTD_freeDStream)> stream_;
  std::string buffer_;
  ZSTD_inBuffer in_ = {nullptr, 0, 0};
  bool frame_complete_ = true;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ByteSource>> ByteSource::Open(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return FileError(path, "can't open the file", errno);
  auto plain = std::make_unique<PlainSource>(path, descriptor);
  struct stat information;
  if (fstat(descriptor, &information) != 0) return FileError(path, "can't open the file", errno);
  if (S_ISDIR(information.st_mode)) return FileError(path, "can't open the file", EISDIR);
  std::array<unsigned char, 4> magic = {};
  const ssize_t got = pread(descriptor, magic.data(), magic.size(), 0);
  constexpr std::array<unsigned char, 4> kZstd = {0x28, 0xB5, 0x2F, 0xFD};
  if (got >= 2 && magic[0] == 0x1F && magic[1] == 0x8B) {
    const gzFile file = gzopen(path.c_str(), "rb");
    if (file == nullptr) return FileError(path, "can't open the file", errno);
    return std::make_unique<GzipSource>(path, file);
  }
  if (got == 4 && magic == kZstd) return std::make_unique<ZstdSource>(path, std::move(plain));
  return plain;
}

absl::StatusOr<std::unique_ptr<LineReader>> LineReader::Open(const std::string& path) {
  ISTHMUS_ASSIGN_OR_RETURN(auto source, ByteSource::Open(path));
  return absl::WrapUnique(new LineReader(std::move(source)));
}

absl::StatusOr<bool> LineReader::Next(std::string& line) {
  line.clear();
  bool any = false;
  while (true) {
    if (begin_ == end_) {
      ISTHMUS_ASSIGN_OR_RETURN(end_, source_->Read(buffer_.data(), static_cast<int64_t>(buffer_.size())));
      begin_ = 0;
      if (end_ == 0) {
        line_number_ += any;
        return any;
      }
    }
    any = true;
    const char* from = buffer_.data() + begin_;
    const auto* newline = static_cast<const char*>(std::memchr(from, '\n', static_cast<size_t>(end_ - begin_)));
    const int64_t count = newline != nullptr ? newline - from : end_ - begin_;
    line.append(from, static_cast<size_t>(count));
    begin_ += count;
    if (newline == nullptr) continue;
    ++begin_;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    ++line_number_;
    return true;
  }
}

}  // namespace isthmus
