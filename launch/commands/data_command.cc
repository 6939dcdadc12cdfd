#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "launch/commands.h"
#include "launch/options.h"
#include "runtime/data/token_dataset.h"
#include "runtime/data/tokenizer.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// Describes how training uses a shard of so many tokens. sequence_length is 0 if it is not known.
std::string SamplesText(int64_t tokens, int64_t sequence_length) {
  if (tokens < 2) return "; too short for any sample: training passes over it";
  if (sequence_length == 0) return absl::StrCat("; samples of up to ", tokens - 1, " tokens");
  const int64_t samples = SamplesOf(tokens, sequence_length);
  if (samples == 0) return absl::StrCat("; too short for a sample of ", sequence_length, ": training passes over it");
  return absl::StrCat("; ", samples, " samples of ", sequence_length);
}

// Shows the first `count` documents, as text if there is a tokenizer, else as numbers.
absl::Status Show(const TokenShard& shard, const Tokenizer* tokenizer, int64_t count, std::ostream& out) {
  constexpr int64_t kMostTokens = 256;
  for (int64_t i = 0; i < std::min(count, shard.documents()); ++i) {
    uint64_t starts[2] = {0, static_cast<uint64_t>(shard.tokens())};
    const size_t known = i + 1 < shard.documents() ? 2 : 1;
    ISTHMUS_RETURN_IF_ERROR(shard.ReadDocumentStarts(i, absl::MakeSpan(starts, known)));
    const auto begin = static_cast<int64_t>(starts[0]), end = static_cast<int64_t>(starts[1]);
    std::vector<int32_t> ids(static_cast<size_t>(std::min(end - begin, kMostTokens)));
    ISTHMUS_RETURN_IF_ERROR(shard.Read(begin, absl::MakeSpan(ids)));
    out << "--- document " << i << ", " << end - begin << " tokens\n";
    if (tokenizer != nullptr) {
      ISTHMUS_ASSIGN_OR_RETURN(const std::string text, tokenizer->Decode(ids));
      out << text;
    } else {
      for (const int32_t id : ids) out << id << ' ';
    }
    out << (end - begin > kMostTokens ? " …\n" : "\n");
  }
  return absl::OkStatus();
}

absl::Status Inspect(absl::Span<const std::string> arguments, std::ostream& out) {
  std::vector<std::string> paths;
  std::string tokenizer_path;
  int64_t documents = 0, sequence_length = 0;
  Options options("isthmus data inspect",
                  "Checks token shards completely (checksum, every token, document boundaries) and shows them.");
  options.Add("tokenizer", "FILE", "SentencePiece model that the shards must have been made with", &tokenizer_path)
      .Add("show", "N", "print the first documents of each shard", &documents)
      .Add("sequence-length", "N", "say how many samples of N tokens each shard gives", &sequence_length)
      .Positional("SHARD...", "token shards (.ids) or folders of them", &paths, 1);
  ISTHMUS_RETURN_IF_ERROR(options.Parse(arguments));
  if (options.help_wanted()) {
    out << options.Help();
    return absl::OkStatus();
  }
  if (sequence_length < 0) {
    return absl::InvalidArgumentError(absl::StrCat("--sequence-length: ", sequence_length, "; accepts 1 and more"));
  }
  std::unique_ptr<Tokenizer> tokenizer;
  if (!tokenizer_path.empty()) {
    ISTHMUS_ASSIGN_OR_RETURN(tokenizer, Tokenizer::Load(tokenizer_path));
  }
  ISTHMUS_ASSIGN_OR_RETURN(const auto files, FindTokenShards(paths));
  for (const std::string& file : files) {
    ISTHMUS_ASSIGN_OR_RETURN(const auto shard, TokenShard::Open(file));
    ISTHMUS_RETURN_IF_ERROR(shard->Verify());
    ISTHMUS_ASSIGN_OR_RETURN(const std::vector<uint64_t> counts, shard->ReadCounts());
    out << absl::StrFormat(
        "%s: %d tokens of %d bytes, %d documents, vocabulary %d, unigram entropy %.4f nats per "
        "token, tokenizer %016x, complete%s\n",
        file, shard->tokens(), shard->token_bytes(), shard->documents(), shard->vocabulary(), UnigramEntropy(counts),
        shard->tokenizer_fingerprint(), SamplesText(shard->tokens(), sequence_length));
    if (tokenizer != nullptr) {
      ISTHMUS_RETURN_IF_ERROR(CheckTokenizer(*tokenizer, tokenizer_path, *shard));
    }
    ISTHMUS_RETURN_IF_ERROR(Show(*shard, tokenizer.get(), documents, out));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status DataCommand(absl::Span<const std::string> arguments, std::ostream& out) {
  const std::string action = arguments.empty() ? "" : arguments.front();
  if (action == "inspect") return Inspect(arguments.subspan(1), out);
  if (action == "--help" || action == "-h") {
    out << "usage: isthmus data inspect ...\n\n"
           "  inspect  check and show token shards\n\n"
           "`isthmus data inspect --help` lists its options.\n";
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("isthmus data: found \"", action, "\"; accepts inspect"));
}

}  // namespace isthmus
