// Lines of a text file: plain, gzip (also dictzip) or Zstandard, told apart by their first bytes.
#ifndef ISTHMUS_RUNTIME_DATA_LINE_READER_H_
#define ISTHMUS_RUNTIME_DATA_LINE_READER_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <string>

namespace isthmus {

// Bytes of a file, decompressed.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // Up to `capacity` bytes; 0 at the end. Errors: DataLoss for damaged or truncated compressed data.
  virtual absl::StatusOr<int64_t> Read(char* to, int64_t capacity) = 0;

  // Errors: by errno, naming the path.
  static absl::StatusOr<std::unique_ptr<ByteSource>> Open(const std::string& path);
};

class LineReader {
 public:
  static absl::StatusOr<std::unique_ptr<LineReader>> Open(const std::string& path);

  // Sets `line` to the next line without its end ("\n" or "\r\n"); false at the end of the file.
  absl::StatusOr<bool> Next(std::string& line);
  int64_t line_number() const { return line_number_; }  // of the line that Next returned, from 1

 private:
  explicit LineReader(std::unique_ptr<ByteSource> source) : source_(std::move(source)), buffer_(1 << 18, '\0') {}

  std::unique_ptr<ByteSource> source_;
  std::string buffer_;
  int64_t begin_ = 0;
  int64_t end_ = 0;
  int64_t line_number_ = 0;
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_DATA_LINE_READER_H_
