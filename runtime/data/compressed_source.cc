#include "runtime/data/compressed_source.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <utility>

#include "runtime/status.h"

namespace isthmus {

CompressedSource::CompressedSource(std::string path, std::unique_ptr<ByteSource> file,
                                   std::unique_ptr<MemberDecoder> decoder)
    : path_(std::move(path)), file_(std::move(file)), decoder_(std::move(decoder)), buffer_(1 << 17, '\0') {}

absl::Status CompressedSource::Damaged(absl::string_view what) const {
  return absl::DataLossError(absl::StrCat(path_, ": damaged or truncated ", decoder_->name(), " data at byte ", offset_,
                                          ": ", what, "; copy or compress the file again"));
}

absl::StatusOr<bool> CompressedSource::Fill() {
  if (!rest_.empty()) return true;
  ISTHMUS_ASSIGN_OR_RETURN(const int64_t got, file_->Read(buffer_.data(), static_cast<int64_t>(buffer_.size())));
  rest_ = absl::string_view(buffer_.data(), static_cast<size_t>(got));
  return got > 0;
}

void CompressedSource::Take(size_t bytes) {
  rest_.remove_prefix(bytes);
  offset_ += static_cast<int64_t>(bytes);
}

absl::StatusOr<bool> CompressedSource::NextMember() {
  const int64_t end = offset_;
  while (true) {
    ISTHMUS_ASSIGN_OR_RETURN(const bool more, Fill());
    if (!more) return false;
    Take(std::min(rest_.find_first_not_of('\0'), rest_.size()));
    if (!rest_.empty()) break;
  }
  if (offset_ > end) {
    return Damaged(absl::StrCat(offset_ - end, " zeros, which only a file's end may have, and then other data"));
  }
  member_ = offset_;
  return true;
}

absl::StatusOr<int64_t> CompressedSource::Read(char* to, int64_t capacity) {
  while (true) {
    if (between_members_) {
      ISTHMUS_ASSIGN_OR_RETURN(const bool more, NextMember());
      if (!more) return 0;
      between_members_ = false;
    }
    if (!made_all_asked_) {
      ISTHMUS_ASSIGN_OR_RETURN(const bool more, Fill());
      if (!more) return Damaged(absl::StrCat("the file ends within what begins at byte ", member_));
    }
    const MemberDecoder::Progress progress = decoder_->Decode(rest_, to, static_cast<size_t>(capacity));
    Take(progress.taken);
    if (!progress.error.empty()) {
      return Damaged(absl::StrCat(progress.error, " in what begins at byte ", member_));
    }
    if (!progress.refusal.empty()) {
      return absl::DataLossError(
          absl::StrCat(path_, ": the ", decoder_->name(), " data that begin at byte ", member_, " ", progress.refusal));
    }
    between_members_ = progress.member_complete;
    made_all_asked_ = !between_members_ && progress.made == static_cast<size_t>(capacity);
    if (progress.made > 0) return static_cast<int64_t>(progress.made);
  }
}

}  // namespace isthmus
