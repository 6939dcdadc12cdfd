// Finds where SentencePiece's input may be cut without changing the tokens.
//
// Pieces that TrainTokenizer makes never cross the beginning of a word, which is a run of spaces with the characters
// that follow it. A text that is cut there has the same words, and the same tokens, as the whole text.
// For models made elsewhere, Tokenizer::Encode (tokenizer.h) says what may differ.
#ifndef ISTHMUS_RUNTIME_DATA_TEXT_CUT_H_
#define ISTHMUS_RUNTIME_DATA_TEXT_CUT_H_

#include <absl/functional/function_ref.h>
#include <absl/status/status.h>
#include <absl/strings/string_view.h>

#include <cstdint>

namespace isthmus {

struct TextCutLimits {
  int64_t bytes = 0;  // of a part
  int64_t characters = 0;
};

// Calls visit(part) for parts that make up all of `text` (UTF-8), also once for an empty one. The text is cut where
// words begin, or between characters if a word is longer than a part. A text within the limits (at least 4 bytes and 1
// character) is one part. Stops at the first error of `visit`.
absl::Status VisitParts(absl::string_view text, const TextCutLimits& limits,
                        absl::FunctionRef<absl::Status(absl::string_view)> visit);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_DATA_TEXT_CUT_H_
