// Reads the lines of a text file one at a time.
#ifndef ISTHMUS_LAUNCH_REPORT_LINE_READER_H_
#define ISTHMUS_LAUNCH_REPORT_LINE_READER_H_

#include <absl/status/statusor.h>

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>

namespace isthmus::report {

class LineReader {
 public:
  // A record with the spectra of a very wide head has a few hundred KB.
  static constexpr size_t kLongestLine = size_t{16} << 20;

  // Errors: by errno, naming the path.
  static absl::StatusOr<LineReader> Open(const std::string& path);

  // Returns false at the end of the file. Errors: by errno; InvalidArgument "file:line: …" beyond kLongestLine.
  absl::StatusOr<bool> Next();
  const std::string& line() const { return line_; }  // without its end
  int64_t number() const { return number_; }         // from 1
  bool ended() const { return ended_; }              // false: the file ends within the line

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  LineReader(std::string path, std::FILE* file) : path_(std::move(path)), file_(file) {}

  std::string path_;
  std::unique_ptr<std::FILE, Close> file_;
  std::string line_;
  std::string buffer_;
  size_t position_ = 0;
  int64_t number_ = 0;
  bool ended_ = true;
};

}  // namespace isthmus::report

#endif  // ISTHMUS_LAUNCH_REPORT_LINE_READER_H_
