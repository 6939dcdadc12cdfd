#include "runtime/data/line_reader.h"

#include <absl/memory/memory.h>
#include <absl/strings/str_cat.h>

#include <cstring>

#include "runtime/status.h"

namespace isthmus {

absl::StatusOr<std::unique_ptr<LineReader>> LineReader::Open(const std::string& path) {
  ISTHMUS_ASSIGN_OR_RETURN(auto source, ByteSource::Open(path));
  return absl::WrapUnique(new LineReader(path, std::move(source)));
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
    if (static_cast<int64_t>(line.size()) + count > kMostLineBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat(path_, ":", line_number_ + 1, ": the line has more than ", kMostLineBytes,
                       " bytes; accepts lines up to that: break the text into lines or documents"));
    }
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
