#include "runtime/data/text_cut.h"

#include <absl/strings/match.h>

#include <algorithm>
#include <cstddef>

#include "runtime/status.h"

namespace isthmus {
namespace {

// SentencePiece writes a space as U+2581 and reads U+2581 as a space, too.
bool IsSpaceAt(absl::string_view text) { return text.front() == ' ' || absl::StartsWith(text, "\xE2\x96\x81"); }

size_t CharacterBytes(absl::string_view text) {
  const auto first = static_cast<unsigned char>(text.front());
  const size_t bytes = first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  return std::min(bytes, text.size());
}

}  // namespace

absl::Status VisitParts(absl::string_view text, const TextCutLimits& limits,
                        absl::FunctionRef<absl::Status(absl::string_view)> visit) {
  if (static_cast<int64_t>(text.size()) <= std::min(limits.bytes, limits.characters)) return visit(text);
  const auto most_bytes = static_cast<size_t>(limits.bytes);
  size_t begin = 0, word = 0;
  int64_t characters = 0, word_characters = 0;  // since the beginning of the part, and of the word
  bool after_space = false;
  for (size_t at = 0; at < text.size();) {
    const absl::string_view rest = text.substr(at);
    const size_t bytes = CharacterBytes(rest);
    const bool space = IsSpaceAt(rest);
    if (space && !after_space) {
      word = at;
      word_characters = 0;
    }
    after_space = space;
    // The part after a cut at a word may be too long as well.
    while (characters == limits.characters || at + bytes - begin > most_bytes) {
      if (word <= begin) {
        word = at;
        word_characters = 0;
      }
      ISTHMUS_RETURN_IF_ERROR(visit(text.substr(begin, word - begin)));
      begin = word;
      characters = word_characters;
    }
    at += bytes;
    ++characters;
    ++word_characters;
  }
  return visit(text.substr(begin));
}

}  // namespace isthmus
