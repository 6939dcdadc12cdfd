// Where a long text may be cut for SentencePiece without any change of what it makes of it.
//
// Pieces that TrainTokenizer makes never reach over the beginning of a word: a run of spaces with the characters that
// follow it. A text that is cut there has the same words, and the same tokens, as a whole one.
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

// Calls visit(part) for parts of `text` (UTF-8) that make up all of it, cut where words begin, or between
// characters where a word is longer than a part: once where
// `text` is within the limits (at least 4 and 1), also for an empty one. Stops at the first error of `visit`.
absl::Status VisitParts(absl::string_view text, const TextCutLimits& limits,
                        absl::FunctionRef<absl::Status(absl::string_view)> visit);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_DATA_TEXT_CUT_H_
