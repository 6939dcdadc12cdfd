// The SentencePiece library behind standard types. Its headers and Abseil's each declare absl::string_view, so that no
// file can include both.
#ifndef ISTHMUS_RUNTIME_DATA_SENTENCE_PIECE_H_
#define ISTHMUS_RUNTIME_DATA_SENTENCE_PIECE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace isthmus {

// Functions that return std::string return the reason of a failure, or an empty string on success.
class SentencePieceModel {
 public:
  SentencePieceModel();
  ~SentencePieceModel();

  std::string Load(const std::string& serialized_model);
  int vocabulary() const;
  // The id of the token that ends a text; negative when the model has none.
  int end_of_text() const;
  std::string Encode(const char* text, size_t bytes, std::vector<int>& ids) const;
  std::string Decode(const std::vector<int>& ids, std::string& text) const;

 private:
  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
};

struct SentencePieceTraining {
  int64_t vocabulary = 0;
  double character_coverage = 1;
  // Sets its argument to the next line of the text to learn from; returns false at the end. The trainer silently leaves
  // out lines of more than kMostTrainingLineBytes and those with kReservedCharacter. At lines of more than
  // kMostTrainingLineCharacters it may end the process by SIGSEGV, because it keeps places in signed 16-bit numbers.
  std::function<bool(std::string&)> next_line;
};
inline constexpr int64_t kMostTrainingLineBytes = 65536;
inline constexpr int64_t kMostTrainingLineCharacters = 32768;
inline constexpr char kReservedCharacter[] = "\xE2\x96\x85";  // U+2585
std::string TrainSentencePiece(const SentencePieceTraining& training, std::string& serialized_model);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_DATA_SENTENCE_PIECE_H_
