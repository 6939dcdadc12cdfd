#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
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
#include "runtime/data/bigram_counts.h"
#include "runtime/data/class_bigram.h"
#include "runtime/data/document_reader.h"
#include "runtime/data/equal_clusters.h"
#include "runtime/data/frequency_clusters.h"
#include "runtime/data/token_cluster_file.h"
#include "runtime/data/token_clusters.h"
#include "runtime/data/token_dataset.h"
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

// Says how good the clusters are, by held-out text, beside clusters that know less.
std::string QualityText(const CorpusBigrams& bigrams, absl::Span<const int32_t> cluster_of, int64_t clusters,
                        uint64_t seed) {
  const ClassBigram model(bigrams);
  if (model.held_out_pairs() == 0) return "too few tokens to say how good the clusters are";
  const auto vocabulary = static_cast<int64_t>(cluster_of.size());
  const double alone = model.Loss(std::vector<int32_t>(cluster_of.size(), 0), 1);
  const auto explained = [&](absl::Span<const int32_t> of) { return alone - model.Loss(of, clusters); };
  return absl::StrFormat(
      "clusters explain %.4f of %.4f nats per token of held-out text; random ones %.4f, clusters by frequency %.4f",
      explained(cluster_of), alone, explained(ShuffledClusters(vocabulary, clusters, seed)),
      explained(FrequencyClusters(bigrams.training.RowSums(), clusters, 1)));
}

absl::Status Cluster(absl::Span<const std::string> arguments, std::ostream& out) {
  std::vector<std::string> paths;
  std::string path;
  int64_t clusters = 0, tokens = 1'000'000'000, seed = 1;
  Options options("isthmus tokenizer cluster",
                  "Clusters the vocabulary into equal parts: tokens of a cluster come after the same tokens.");
  options.Add("out", "FILE", "the .npy file to write, int32, the cluster of each token", &path, true)
      .Add("clusters", "N", "number of clusters, 1 to the vocabulary", &clusters, true)
      .Add("tokens", "N", "learn from about as many, blocks chosen at random if there are more", &tokens)
      .Add("seed", "N", "of the choice of blocks, and of the random clusters to compare with", &seed)
      .Positional("SHARD...", "token shards (.ids) or folders of them", &paths, 1);
  ISTHMUS_RETURN_IF_ERROR(options.Parse(arguments));
  if (options.help_wanted()) {
    out << options.Help();
    return absl::OkStatus();
  }
  if (clusters < 1) {
    return absl::InvalidArgumentError(absl::StrCat("--clusters: ", clusters, "; accepts 1 to the vocabulary"));
  }
  if (tokens < 1 || tokens > kMostBigrams) {
    return absl::InvalidArgumentError(absl::StrCat("--tokens: ", tokens, "; accepts 1 to ", kMostBigrams));
  }
  ISTHMUS_RETURN_IF_ERROR(CheckOutput(path));
  ISTHMUS_ASSIGN_OR_RETURN(const std::vector<std::string> files, FindTokenShards(paths));
  ISTHMUS_RETURN_IF_ERROR(CheckResultPath("--out", path, {.files = files, .folders = {}}));
  ISTHMUS_ASSIGN_OR_RETURN(const auto dataset, TokenDataset::Open(files, 1));
  if (clusters > dataset->vocabulary()) {
    return absl::InvalidArgumentError(absl::StrCat("--clusters: ", clusters, "; ", files.front(),
                                                   " has a vocabulary of ", dataset->vocabulary(), "; accepts 1 to ",
                                                   dataset->vocabulary()));
  }
  ISTHMUS_RETURN_IF_ERROR(StartThreads(MaxThreads()));
  const BigramSampling sampling = {.tokens = tokens, .seed = static_cast<uint64_t>(seed)};
  ISTHMUS_ASSIGN_OR_RETURN(const CorpusBigrams bigrams, CountBigrams(*dataset, sampling));
  const std::vector<int32_t> cluster_of = ClusterTokens(bigrams.training, clusters);
  const std::string quality = QualityText(bigrams, cluster_of, clusters, sampling.seed);
  std::ostream& says = IsStandardOutput(path) ? std::cerr : out;
  ISTHMUS_RETURN_IF_ERROR(WriteTokenClusters(path, cluster_of));
  const int64_t least = dataset->vocabulary() / clusters;
  says << path << ": " << clusters << " clusters of " << least;
  if (dataset->vocabulary() % clusters > 0) says << " or " << least + 1;
  says << " tokens\n" << quality << "\n";
  return absl::OkStatus();
}

}  // namespace

absl::Status TokenizerCommand(absl::Span<const std::string> arguments, std::ostream& out) {
  const std::string action = arguments.empty() ? "" : arguments.front();
  if (action == "train") return Train(arguments.subspan(1), out);
  if (action == "encode") return Encode(arguments.subspan(1), out);
  if (action == "cluster") return Cluster(arguments.subspan(1), out);
  if (action == "--help" || action == "-h") {
    out << "usage: isthmus tokenizer train|encode|cluster ...\n\n"
           "  train    learn a vocabulary from text\n"
           "  encode   turn text into token shards\n"
           "  cluster  group the vocabulary by the tokens that come before\n\n"
           "`isthmus tokenizer train --help` lists the options of each.\n";
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("isthmus tokenizer: found \"", action, "\"; accepts train, encode or cluster"));
}

}  // namespace isthmus
