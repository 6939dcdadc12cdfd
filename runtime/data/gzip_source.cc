#include <zlib.h>

#include <algorithm>

#include "runtime/data/compressed_source.h"

namespace isthmus {
namespace {

class GzipDecoder : public MemberDecoder {
 public:
  // 16 means gzip and nothing else.
  GzipDecoder() { ready_ = inflateInit2(&stream_, 16 + MAX_WBITS) == Z_OK; }
  ~GzipDecoder() override { inflateEnd(&stream_); }
  GzipDecoder(const GzipDecoder&) = delete;
  GzipDecoder& operator=(const GzipDecoder&) = delete;

  absl::string_view name() const override { return "gzip"; }

  Progress Decode(absl::string_view in, char* to, size_t capacity) override {
    if (!ready_) return {.error = "there is no memory for zlib"};
    constexpr size_t kMost = size_t{1} << 30;
    const auto available = static_cast<uInt>(std::min(in.size(), kMost)),
               room = static_cast<uInt>(std::min(capacity, kMost));
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in.data()));
    stream_.avail_in = available;
    stream_.next_out = reinterpret_cast<Bytef*>(to);
    stream_.avail_out = room;
    const int result = inflate(&stream_, Z_NO_FLUSH);
    Progress progress = {.taken = available - stream_.avail_in, .made = room - stream_.avail_out};
    if (result == Z_STREAM_END) {
      progress.member_complete = true;
      inflateReset(&stream_);
    } else if (result != Z_OK && result != Z_BUF_ERROR) {
      progress.error = stream_.msg != nullptr ? stream_.msg : zError(result);
    }
    return progress;
  }

 private:
  z_stream stream_ = {};
  bool ready_ = false;
};

}  // namespace

std::unique_ptr<ByteSource> GzipSource(const std::string& path, std::unique_ptr<ByteSource> file) {
  return std::make_unique<CompressedSource>(path, std::move(file), std::make_unique<GzipDecoder>());
}

}  // namespace isthmus
