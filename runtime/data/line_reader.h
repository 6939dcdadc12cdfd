// Reads lines of a text file: plain, gzip or Zstandard (runtime/data/byte_source.h).
#ifndef ISTHMUS_RUNTIME_DATA_LINE_READER_H_
#define ISTHMUS_RUNTIME_DATA_LINE_READER_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "runtime/data/byte_source.h"

namespace isthmus {

// Most bytes of a line. A line is held in memory, and a small compressed file may hold a line of any length.
inline constexpr int64_t kMostLineBytes = int64_t{1} << 27;

class LineReader {
 public:
  static absl::StatusOr<std::unique_ptr<LineReader>> Open(const std::string& path);

  // Sets `line` to the next line without its end ("\n" or "\r\n"); returns false at the end of the file. Errors: those
  // of ByteSource; InvalidArgument "path:line: …" for a line of more than kMostLineBytes, before it takes more memory.
  absl::StatusOr<bool> Next(std::string& line);
  int64_t line_number() const { return line_number_; }  // of the line that Next returned, from 1

 private:
  LineReader(std::string path, std::unique_ptr<ByteSource> source)
      : path_(std::move(path)), source_(std::move(source)), buffer_(1 << 18, '\0') {}

  std::string path_;
  std::unique_ptr<ByteSource> source_;
  std::string buffer_;
  int64_t begin_ = 0;
  int64_t end_ = 0;
  int64_t line_number_ = 0;
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_DATA_LINE_READER_H_
