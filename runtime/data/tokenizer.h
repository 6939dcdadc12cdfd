// Turns text into tokens and back. It uses SentencePiece byte-pair encoding (Kudo & Richardson 2018, arXiv:1808.06226)
// with byte fallback and without normalisation, so that every text comes back as it was.
#ifndef ISTHMUS_RUNTIME_DATA_TOKENIZER_H_
#define ISTHMUS_RUNTIME_DATA_TOKENIZER_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/data/sentence_piece.h"
#include "runtime/data/token_shard.h"

namespace isthmus {

// Most bytes of a model. One with a vocabulary of 2^24 has some 400 MB.
inline constexpr int64_t kMostTokenizerBytes = int64_t{512} << 20;

class Tokenizer {
 public:
  // Errors: by errno for the file; InvalidArgument when it has more than kMostTokenizerBytes, is no SentencePiece model
  // or has no end-of-text token.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Load(const std::string& path);
  // Does the same with a file's contents; `path` is the file's, for messages.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Parse(const std::string& contents, const std::string& path);

  int64_t vocabulary() const { return vocabulary_; }
  // The token that ends a document.
  int32_t end_of_text() const { return end_of_text_; }
  // The XXH3 of the model file, which token shards carry.
  uint64_t fingerprint() const { return fingerprint_; }

  // Appends the tokens of `text` to `ids`. Texts above 256 KiB are cut between words, so that memory does not grow with
  // them; a word as long is cut between characters. With a model of TrainTokenizer a cut between words changes no
  // token. Its newlines are tokens of their own, so that a text may be encoded line by line, too. Models made elsewhere
  // may differ. Those with add_dummy_prefix put a space before each part. Pieces that reach over the beginnings of
  // words are lost at a cut.
  absl::Status Encode(const std::string& text, std::vector<int32_t>& ids) const;
  // Bytes that are no UTF-8 come out as U+FFFD. Errors: OutOfRange for an id >= vocabulary().
  absl::StatusOr<std::string> Decode(const std::vector<int32_t>& ids) const;

 private:
  SentencePieceModel model_;
  int64_t vocabulary_ = 0;
  int32_t end_of_text_ = 0;
  uint64_t fingerprint_ = 0;
};

// Errors: InvalidArgument when `shard` was made with another tokenizer; `path` is the tokenizer's, for the message.
absl::Status CheckTokenizer(const Tokenizer& tokenizer, const std::string& path, const TokenShard& shard);

struct TokenizerTraining {
  std::vector<std::string> files;  // as ReadDocuments accepts
  std::string text_field = "text";
  int64_t vocabulary = 4096;  // at least 260: bytes, newline, and the special tokens
  int64_t sample_bytes = 0;   // text to learn from, lines chosen at random; 0: all
  double character_coverage = 0.9995;
  uint64_t seed = 1;
};

// Trains a vocabulary; returns the model file's contents. The same input gives the same bytes on every machine with the
// same SentencePiece. Lines of any length are learnt from. Lines that the library can't take are cut between words, and
// words of more than 32,768 characters into several. Errors: InvalidArgument if the corpus is empty, or if the
// vocabulary is smaller than bytes, special tokens and the corpus's characters together.
absl::StatusOr<std::string> TrainTokenizer(const TokenizerTraining& training);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_DATA_TOKENIZER_H_
