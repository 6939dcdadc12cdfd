#include "runtime/data/tokenizer.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <xxhash.h>

#include <utility>

#include "runtime/data/text_cut.h"
#include "runtime/durable_file.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// SentencePiece takes some hundred bytes of memory for each byte that it encodes at once.
constexpr TextCutLimits kEncodedAtOnce = {.bytes = 1 << 18, .characters = 1 << 18};

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Load(const std::string& path) {
  ISTHMUS_ASSIGN_OR_RETURN(const std::string contents, ReadFile(path, kMostTokenizerBytes));
  return Parse(contents, path);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Parse(const std::string& contents, const std::string& path) {
  auto tokenizer = std::make_unique<Tokenizer>();
  const std::string failure = contents.empty() ? "the file is empty" : tokenizer->model_.Load(contents);
  if (!failure.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": is not a SentencePiece model (", failure, "); make one with `isthmus tokenizer train`"));
  }
  tokenizer->vocabulary_ = tokenizer->model_.vocabulary();
  tokenizer->end_of_text_ = tokenizer->model_.end_of_text();
  if (tokenizer->end_of_text_ < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(path,
                     ": the SentencePiece model has no end-of-sentence token, which ends documents; train it "
                     "with one"));
  }
  tokenizer->fingerprint_ = XXH3_64bits(contents.data(), contents.size());
  return tokenizer;
}

absl::Status Tokenizer::Encode(const std::string& text, std::vector<int32_t>& ids) const {
  std::vector<int> found;
  return VisitParts(text, kEncodedAtOnce, [&](absl::string_view part) {
    const std::string failure = model_.Encode(part.data(), part.size(), found);
    if (!failure.empty()) return absl::InternalError(absl::StrCat("the tokenizer failed: ", failure));
    ids.insert(ids.end(), found.begin(), found.end());
    return absl::OkStatus();
  });
}

absl::StatusOr<std::string> Tokenizer::Decode(const std::vector<int32_t>& ids) const {
  for (const int32_t id : ids) {
    if (id < 0 || id >= vocabulary_) {
      return absl::OutOfRangeError(absl::StrCat("token ", id, " is not one of the tokenizer's ", vocabulary_));
    }
  }
  std::string text;
  const std::string failure = model_.Decode(ids, text);
  if (!failure.empty()) return absl::InternalError(absl::StrCat("the tokenizer failed: ", failure));
  return text;
}

absl::Status CheckTokenizer(const Tokenizer& tokenizer, const std::string& path, const TokenShard& shard) {
  if (tokenizer.fingerprint() == shard.tokenizer_fingerprint() && tokenizer.vocabulary() == shard.vocabulary()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrFormat(
      "%s (fingerprint %016x, %d tokens) is not the tokenizer that %s was made with (fingerprint %016x, %d tokens); "
      "use that one or encode the text again",
      path, tokenizer.fingerprint(), tokenizer.vocabulary(), shard.path(), shard.tokenizer_fingerprint(),
      shard.vocabulary()));
}

}  // namespace isthmus
