#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "launch/commands.h"
#include "launch/commands/encode_corpus.h"
#include "launch/commands/result_path.h"
#include "launch/options.h"
#include "launch/threads.h"
#include "runtime/data/document_reader.h"
#include "runtime/data/tokenizer.h"
#include "runtime/durable_file.h"
#include "runtime/parallel_for.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr char kFiles[] = ".txt (one document) or .jsonl (one per line) files, plain, .gz or .zst, or folders of them";

// Returns the text files that `paths` name. Says once which files of their folders are left out.
absl::StatusOr<std::vector<std::string>> TextFiles(const std::vector<std::string>& paths) {
  constexpr size_t kMostNamed = 5;
  std::vector<std::string> left_out;
  ISTHMUS_ASSIGN_OR_RETURN(std::vector<std::string> files, FindTextFiles(paths, left_out));
  if (left_out.empty()) return files;
  const size_t named = std::min(left_out.size(), kMostNamed);
  std::cerr << "left out: " << absl::StrJoin(left_out.begin(), left_out.begin() + static_cast<ptrdiff_t>(named), ", ");
  if (named < left_out.size()) std::cerr << " and " << left_out.size() - named << " more";
  std::cerr << "; accepted are " << kTextFileNames << ", and folders that are named themselves\n";
  return files;
}

absl::Status Train(absl::Span<const std::string> arguments, std::ostream& out) {
  TokenizerTraining training;
  std::vector<std::string> paths;
  std::string path;
  int64_t seed = 1;
  Options options("isthmus tokenizer train", "Trains a SentencePiece byte-pair vocabulary with byte fallback.");
  options.Add("out", "FILE", "the model file to write", &path, true)
      .Add("vocabulary", "N", "number of tokens, at least 260", &training.vocabulary)
      .Add("sample-bytes", "N", "learn from about as much text, lines chosen at random; 0: from all",
           &training.sample_bytes)
      .Add("character-coverage", "X", "share of the characters that get tokens; the rest become bytes",
           &training.character_coverage)
      .Add("text-field", "NAME", "field of .jsonl documents that holds the text", &training.text_field)
      .Add("seed", "N", "of the choice of lines", &seed)
      .Positional("FILE...", kFiles, &paths, 1);
  ISTHMUS_RETURN_IF_ERROR(options.Parse(arguments));
  if (options.help_wanted()) {
    out << options.Help();
    return absl::OkStatus();
  }
  if (!(training.character_coverage >= 0.98 && training.character_coverage <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--character-coverage: ", training.character_coverage, "; accepts 0.98 to 1"));
  }
  if (training.sample_bytes < 0) {
    return absl::InvalidArgumentError(absl::StrCat("--sample-bytes: ", training.sample_bytes, "; accepts 0 and more"));
  }
  training.seed = static_cast<uint64_t>(seed);
  ISTHMUS_RETURN_IF_ERROR(CheckOutput(path));
  ISTHMUS_ASSIGN_OR_RETURN(training.files, TextFiles(paths));
  ISTHMUS_RETURN_IF_ERROR(CheckResultPath("--out", path, {.files = training.files, .folders = {}}));
  ISTHMUS_ASSIGN_OR_RETURN(const std::string model, TrainTokenizer(training));
  ISTHMUS_ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::Parse(model, path));
  // If the model goes to standard output, messages must not become part of it.
  std::ostream& says = IsStandardOutput(path) ? std::cerr : out;
  ISTHMUS_RETURN_IF_ERROR(WriteDurably(path, model, FileOwner::kUser));
  says << path << ": " << tokenizer->vocabulary() << " tokens";
  if (tokenizer->vocabulary() < training.vocabulary) {
    says << " of the " << training.vocabulary << " asked for: the text has no more";
  }
  says << "\n";
  return absl::OkStatus();
}

absl::Status Encode(absl::Span<const std::string> arguments, std::ostream& out) {
  CorpusEncoding encoding;
  std::vector<std::string> paths;
  encoding.shard_tokens = 100'000'000;
  Options options("isthmus tokenizer encode",
                  "Turns text into token shards: OUT/train/*.ids and, with --validation-fraction, "
                  "OUT/validation/*.ids.");
  options.Add("tokenizer", "FILE", "SentencePiece model", &encoding.tokenizer, true)
      .Add("out", "FOLDER", "folder to make, or one that is empty", &encoding.folder, true)
      .Add("validation-fraction", "X", "share of the documents, chosen at random, kept for validation",
           &encoding.validation_fraction)
      .Add("shard-tokens", "N", "begin a new shard after as many tokens", &encoding.shard_tokens)
      .Add("text-field", "NAME", "field of .jsonl documents that holds the text", &encoding.text_field)
      .Positional("FILE...", kFiles, &paths, 1);
  ISTHMUS_RETURN_IF_ERROR(options.Parse(arguments));
  if (options.help_wanted()) {
    out << options.Help();
    return absl::OkStatus();
  }
  if (!(encoding.validation_fraction >= 0 && encoding.validation_fraction < 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--validation-fraction: ", encoding.validation_fraction, "; accepts 0 to below 1"));
  }
  if (encoding.shard_tokens < 1) {
    return absl::InvalidArgumentError(absl::StrCat("--shard-tokens: ", encoding.shard_tokens, "; accepts 1 and more"));
  }
  ISTHMUS_RETURN_IF_ERROR(StartThreads(MaxThreads()));
  ISTHMUS_ASSIGN_OR_RETURN(encoding.files, TextFiles(paths));
  ISTHMUS_ASSIGN_OR_RETURN(const EncodedCorpus corpus, EncodeCorpus(encoding));
  out << encoding.folder << ": " << corpus.training_tokens << " tokens in " << corpus.training_documents
      << " documents for training, " << corpus.validation_tokens << " in " << corpus.validation_documents
      << " for validation\n";
  if (encoding.validation_fraction > 0 && corpus.validation_documents == 0) {
    out << "0 documents for validation; leave data.validation empty: then data.validation_fraction of the samples is "
           "kept\n";
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status TokenizerCommand(absl::Span<const std::string> arguments, std::ostream& out) {
  const std::string action = arguments.empty() ? "" : arguments.front();
  if (action == "train") return Train(arguments.subspan(1), out);
  if (action == "encode") return Encode(arguments.subspan(1), out);
  if (action == "--help" || action == "-h") {
    out << "usage: isthmus tokenizer train|encode ...\n\n"
           "  train   learn a vocabulary from text\n"
           "  encode  turn text into token shards\n\n"
           "`isthmus tokenizer train --help` lists the options of each.\n";
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("isthmus tokenizer: found \"", action, "\"; accepts train or encode"));
}

}  // namespace isthmus
