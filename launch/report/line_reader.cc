#include "launch/report/line_reader.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <cerrno>

#include "runtime/durable_file.h"

namespace isthmus::report {

absl::StatusOr<LineReader> LineReader::Open(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "rbe");
  if (file == nullptr) return FileError(path, "can't open the file", errno);
  return LineReader(path, file);
}

absl::StatusOr<bool> LineReader::Next() {
  constexpr size_t kBlock = size_t{1} << 18;
  line_.clear();
  ended_ = false;
  while (!ended_) {
    if (position_ == buffer_.size()) {
      buffer_.resize(kBlock);
      buffer_.resize(std::fread(buffer_.data(), 1, kBlock, file_.get()));
      position_ = 0;
      if (std::ferror(file_.get()) != 0) return FileError(path_, "can't read", errno);
      if (buffer_.empty()) break;
    }
    const size_t end = std::min(buffer_.find('\n', position_), buffer_.size());
    line_.append(buffer_, position_, end - position_);
    ended_ = end < buffer_.size();
    position_ = ended_ ? end + 1 : end;
    if (line_.size() > kLongestLine) {
      return absl::InvalidArgumentError(absl::StrCat(path_, ":", number_ + 1, ": is longer than the ", kLongestLine,
                                                     " bytes that a record may have"));
    }
  }
  if (!ended_ && line_.empty()) return false;
  ++number_;
  return true;
}

}  // namespace isthmus::report
