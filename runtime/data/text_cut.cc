#include "runtime/data/text_cut.h"

#include <absl/strings/match.h>

#include <algorithm>
#include <cstddef>

#include "runtime/status.h"

namespace isthmus {
namespace {

// SentencePiece writes the space as U+2581 and takes that for one, too.
bool IsSpaceAt(absl::string_view text) { return text.front() == ' ' || absl::StartsWith(text, "\xE2\x96\x81"); }

size_t CharacterBytes(absl::string_view text) {
  const auto first = static_cast<unsigned char>(text.front());
  const size_t bytes = first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  return std::min(bytes, text.size());
}

}  // namespace

absl::Status VisitParts(absl::string_view text, const TextCutLimits& limits,
                        absl::FunctionRef<absl::Status(absl::string_view)> visit) {
  if (static_cast<int64_t>(text.size()) <= std::min(limits.bytes, limits.word_characters)) return visit(text);
  const auto most_bytes = static_cast<size_t>(limits.bytes);
  size_t begin = 0, word = 0, at = 0;
  int64_t characters = 0;  // of the word so far
  bool after_space = false;
  const auto cut = [&](size_t place) {
    const absl::Status status = visit(text.substr(begin, place - begin));
    begin = place;
    if (word < place) {
      word = place;
      characters = 0;
    }
    return status;
  };
  while (at < text.size()) {
    const absl::string_view rest = text.substr(at);
    const size_t bytes = CharacterBytes(rest);
    const bool space = IsSpaceAt(rest);
    if (space && !after_space) {
      word = at;
      characters = 0;
    }
    after_space = space;
    if (characters == limits.word_characters) ISTHMUS_RETURN_IF_ERROR(cut(at));
    if (at + bytes - begin > most_bytes) ISTHMUS_RETURN_IF_ERROR(cut(word > begin ? word : at));
    at += bytes;
    ++characters;
  }
  return begin < text.size() ? visit(text.substr(begin)) : absl::OkStatus();
}

}  // namespace isthmus
