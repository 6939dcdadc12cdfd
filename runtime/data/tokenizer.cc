#include "runtime/data/tokenizer.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <xxhash.h>

#include <utility>

#include "runtime/data/document_reader.h"
#include "runtime/durable_file.h"
#include "runtime/philox.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr int64_t kLeastVocabulary = 260;  // 256 bytes, newline, unknown, end of text, and one to learn

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
  const std::string failure = model_.Encode(text, found);
  if (!failure.empty()) return absl::InternalError(absl::StrCat("the tokenizer failed: ", failure));
  ids.insert(ids.end(), found.begin(), found.end());
  return absl::OkStatus();
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

absl::StatusOr<std::string> TrainTokenizer(const TokenizerTraining& training) {
  if (training.vocabulary < kLeastVocabulary || training.vocabulary > (1 << 24)) {
    return absl::InvalidArgumentError(absl::StrCat("--vocabulary: ", training.vocabulary, "; accepts ",
                                                   kLeastVocabulary, " to ", 1 << 24,
                                                   " (256 of them stand for single bytes)"));
  }
  // The trainer keeps its text in memory anyway: only the sample is kept.
  int64_t total = 0;
  const auto nothing = [] { return absl::OkStatus(); };
  if (training.sample_bytes > 0) {
    ISTHMUS_RETURN_IF_ERROR(ReadDocuments(training.files, training.text_field,
                                          {.visit =
                                               [&](const std::string& line) {
                                                 total += static_cast<int64_t>(line.size());
                                                 return absl::OkStatus();
                                               },
                                           .end_of_document = nothing}));
  }
  const double kept =
      total > training.sample_bytes ? static_cast<double>(training.sample_bytes) / static_cast<double>(total) : 1.0;
  std::vector<std::string> lines;
  uint64_t index = 0;
  ISTHMUS_RETURN_IF_ERROR(ReadDocuments(
      training.files, training.text_field,
      {.visit =
           [&](const std::string& line) {
             const uint64_t at = index++;
             if (kept < 1 && Philox::Uniform(training.seed, RandomPurpose::kTokenizerSample, 0, at) >= kept) {
               return absl::OkStatus();
             }
             // Newlines are tokens of their own, not learnt.
             std::string text = line.back() == '\n' ? line.substr(0, line.size() - 1) : line;
             if (text.find_first_not_of(" \t") != std::string::npos) lines.push_back(std::move(text));
             return absl::OkStatus();
           },
       .end_of_document = nothing}));
  if (lines.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(training.files.front(), training.files.size() > 1 ? ", …" : "",
                                                   ": no text to train a vocabulary on; the corpus is empty"));
  }
  size_t next = 0;
  std::string model;
  const std::string failure = TrainSentencePiece({.vocabulary = training.vocabulary,
                                                  .character_coverage = training.character_coverage,
                                                  .threads = training.threads,
                                                  .next_line =
                                                      [&](std::string& line) {
                                                        if (next == lines.size()) return false;
                                                        line = lines[next++];
                                                        return true;
                                                      }},
                                                 model);
  if (!failure.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the vocabulary can't be trained: ", failure, "; give more text or a smaller --vocabulary"));
  }
  return model;
}

}  // namespace isthmus
