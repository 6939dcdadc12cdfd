#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/string_view.h>

#include <filesystem>
#include <system_error>
#include <utility>

#include "runtime/data/document_reader.h"
#include "runtime/data/text_cut.h"
#include "runtime/data/tokenizer.h"
#include "runtime/philox.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr int64_t kLeastVocabulary = 260;  // 256 bytes, newline, unknown, end of text, and one to learn
constexpr TextCutLimits kTrainingLimits = {.bytes = kMostTrainingLineBytes, .characters = kMostTrainingLineCharacters};

absl::Status CheckTraining(const TokenizerTraining& training) {
  if (training.vocabulary < kLeastVocabulary || training.vocabulary > kMostVocabulary) {
    return absl::InvalidArgumentError(absl::StrCat("--vocabulary: ", training.vocabulary, "; accepts ",
                                                   kLeastVocabulary, " to ", kMostVocabulary,
                                                   " (256 of them stand for single bytes)"));
  }
  if (training.sample_bytes <= 0) return absl::OkStatus();
  for (const std::string& file : training.files) {
    std::error_code error;
    if (!std::filesystem::exists(file, error) || std::filesystem::is_regular_file(file, error)) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        file, ": is no regular file, and a sample needs to read it twice; leave out --sample-bytes or make it a file"));
  }
  return absl::OkStatus();
}

// Visits the parts of a line that the trainer can take. The character that it reserves can't be learnt.
template <typename Visit>
absl::Status VisitTrainingParts(absl::string_view line, const Visit& visit) {
  const absl::string_view reserved = kReservedCharacter;
  for (size_t at = 0; (at = line.find(reserved)) != absl::string_view::npos;) {
    ISTHMUS_RETURN_IF_ERROR(VisitParts(line.substr(0, at), kTrainingLimits, visit));
    line.remove_prefix(at + reserved.size());
  }
  return VisitParts(line, kTrainingLimits, visit);
}

absl::StatusOr<int64_t> TextBytes(const TokenizerTraining& training) {
  int64_t total = 0;
  ISTHMUS_RETURN_IF_ERROR(ReadDocuments(training.files, training.text_field,
                                        {.visit =
                                             [&](const std::string& line) {
                                               total += static_cast<int64_t>(line.size());
                                               return absl::OkStatus();
                                             },
                                         .end_of_document = [] { return absl::OkStatus(); }}));
  return total;
}

// Says what went wrong when the library failed. The library uses an assertion to say that the characters alone exceed
// the vocabulary.
absl::Status TrainingError(const TokenizerTraining& training, absl::string_view failure) {
  const size_t at = failure.find("smaller than required_chars");
  const size_t versus = at == absl::string_view::npos ? at : failure.find(" vs ", at);
  if (versus != absl::string_view::npos) {
    absl::string_view digits = failure.substr(versus + 4);
    digits = digits.substr(0, digits.find_first_not_of("0123456789"));
    int64_t least = 0;
    if (absl::SimpleAtoi(digits, &least)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--vocabulary: ", training.vocabulary, "; this text needs at least ", least,
                       ": 259 for bytes and ", "special tokens, ", least - 259,
                       " for its characters; or lower --character-coverage (", training.character_coverage, ")"));
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat("the vocabulary can't be trained: ", failure, "; give more text or a smaller --vocabulary"));
}

// Says why there is no line to train on. `text_bytes` counts all lines with text, chosen or not.
absl::Status NoLines(const TokenizerTraining& training, int64_t text_bytes) {
  const std::string files = absl::StrCat(training.files.front(), training.files.size() > 1 ? ", …" : "");
  if (text_bytes == 0) {
    return absl::InvalidArgumentError(absl::StrCat(files, ": no text to train a vocabulary on; the corpus is empty"));
  }
  return absl::InvalidArgumentError(absl::StrCat("--sample-bytes: ", training.sample_bytes, "; none of the lines of ",
                                                 files, ", which have ", text_bytes,
                                                 " bytes of text, is in a sample of that size; give more, or leave it "
                                                 "out to learn from all"));
}

}  // namespace

absl::StatusOr<std::string> TrainTokenizer(const TokenizerTraining& training) {
  ISTHMUS_RETURN_IF_ERROR(CheckTraining(training));
  double kept = 1;
  if (training.sample_bytes > 0) {
    ISTHMUS_ASSIGN_OR_RETURN(const int64_t total, TextBytes(training));
    if (total > training.sample_bytes) {
      kept = static_cast<double>(training.sample_bytes) / static_cast<double>(total);
    }
  }
  // Only the sample is kept, because the trainer keeps its text in memory anyway.
  std::vector<std::string> lines;
  uint64_t index = 0;
  int64_t text_bytes = 0;
  const auto keep = [&](absl::string_view part) {
    const uint64_t at = index++;
    const bool chosen = kept >= 1 || Philox::Uniform(training.seed, RandomPurpose::kTokenizerSample, 0, at) < kept;
    if (part.find_first_not_of(" \t") == absl::string_view::npos) return absl::OkStatus();
    text_bytes += static_cast<int64_t>(part.size());
    if (chosen) lines.emplace_back(part);
    return absl::OkStatus();
  };
  ISTHMUS_RETURN_IF_ERROR(ReadDocuments(training.files, training.text_field,
                                        {.visit =
                                             [&](const std::string& line) {
                                               // Newlines are tokens of their own and are not learnt.
                                               absl::string_view text = line;
                                               if (!text.empty() && text.back() == '\n') text.remove_suffix(1);
                                               return VisitTrainingParts(text, keep);
                                             },
                                         .end_of_document = [] { return absl::OkStatus(); }}));
  if (lines.empty()) return NoLines(training, text_bytes);
  size_t next = 0;
  std::string model;
  const std::string failure = TrainSentencePiece({.vocabulary = training.vocabulary,
                                                  .character_coverage = training.character_coverage,
                                                  .next_line =
                                                      [&](std::string& line) {
                                                        if (next == lines.size()) return false;
                                                        line = lines[next++];
                                                        return true;
                                                      }},
                                                 model);
  if (!failure.empty()) return TrainingError(training, failure);
  return model;
}

}  // namespace isthmus
