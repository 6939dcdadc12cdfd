// Decompresses a file of members (gzip) or frames (Zstandard); both are called members here.
#ifndef ISTHMUS_RUNTIME_DATA_COMPRESSED_SOURCE_H_
#define ISTHMUS_RUNTIME_DATA_COMPRESSED_SOURCE_H_

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "runtime/data/byte_source.h"

namespace isthmus {

// `path`: for messages; `file`: the compressed bytes.
std::unique_ptr<ByteSource> GzipSource(const std::string& path, std::unique_ptr<ByteSource> file);
std::unique_ptr<ByteSource> ZstdSource(const std::string& path, std::unique_ptr<ByteSource> file);

// Decodes members, one after another.
class MemberDecoder {
 public:
  struct Progress {
    size_t taken = 0, made = 0;    // bytes
    bool member_complete = false;  // all of its bytes are in `to`, too
    std::string error;             // what is wrong with the member, if anything
    std::string refusal;           // for a sound member that can't be decoded: why not, and what to do
  };
  virtual ~MemberDecoder() = default;
  // Name of the format in messages: "gzip".
  virtual absl::string_view name() const = 0;
  // Decodes as far as `in` and `capacity` allow. The first call after a complete member begins another.
  virtual Progress Decode(absl::string_view in, char* to, size_t capacity) = 0;
};

// The part that all formats share: where members begin and end, and what may follow them.
class CompressedSource : public ByteSource {
 public:
  CompressedSource(std::string path, std::unique_ptr<ByteSource> file, std::unique_ptr<MemberDecoder> decoder);
  absl::StatusOr<int64_t> Read(char* to, int64_t capacity) override;

 private:
  // Reads more if nothing is left to decode; false at the end of the file.
  absl::StatusOr<bool> Fill();
  // Called between members: returns whether another follows.
  absl::StatusOr<bool> NextMember();
  void Take(size_t bytes);
  absl::Status Damaged(absl::string_view what) const;

  std::string path_;
  std::unique_ptr<ByteSource> file_;
  std::unique_ptr<MemberDecoder> decoder_;
  std::string buffer_;
  absl::string_view rest_;  // part of the buffer that is not decoded yet
  int64_t offset_ = 0;      // of `rest_` in the file
  int64_t member_ = 0;      // where the member begins
  bool between_members_ = true;
  bool made_all_asked_ = false;  // true if the decoder may have more without reading
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_DATA_COMPRESSED_SOURCE_H_
