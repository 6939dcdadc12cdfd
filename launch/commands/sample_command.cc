#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "checkpoint/manifest.h"
#include "checkpoint/stored_clusters.h"
#include "checkpoint/stored_file.h"
#include "checkpoint/weights.h"
#include "launch/choose_device.h"
#include "launch/commands.h"
#include "launch/options.h"
#include "launch/run/agreed_checkpoint.h"
#include "launch/threads.h"
#include "model/generate/text_generator.h"
#include "model/resolve.h"
#include "parallel/mesh.h"
#include "runtime/data/token_tables.h"
#include "runtime/data/tokenizer.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

struct SampleRequest {
  std::string checkpoint, prompt, tokenizer, device_name = "auto";
  proto::DeviceKind device = proto::AUTO;
  int64_t tokens = 100, seed = 1;
  SamplingOptions sampling;
};

// Every rank reads this before the model is built.
struct Loaded {
  std::string folder;
  proto::CheckpointManifest manifest;
  std::unique_ptr<Tokenizer> tokenizer;
  std::vector<int32_t> tokens;  // of the prompt
  TokenTables tables;
};

// Loads the one in the checkpoint's folder, which others may have made.
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadStoredTokenizer(const std::string& path) {
  ISTHMUS_ASSIGN_OR_RETURN(const std::string contents, ReadStoredFile(path, kMostTokenizerBytes));
  return Tokenizer::Parse(contents, path);
}

absl::Status CheckRequest(const SampleRequest& request) {
  if (request.tokens < 1) {
    return absl::InvalidArgumentError(absl::StrCat("--tokens: ", request.tokens, "; accepts 1 and more"));
  }
  return CheckSamplingOptions(request.sampling);
}

// `loaded` has folder and manifest, which all ranks have agreed on.
absl::StatusOr<Loaded> Load(const SampleRequest& request, Loaded loaded, int world_size) {
  auto& config = *loaded.manifest.mutable_config();
  if (config.data().has_spamlang()) {
    return absl::InvalidArgumentError(
        absl::StrCat(loaded.folder,
                     ": its model was trained on data.spamlang, which has no text and no tokenizer; accepts a "
                     "checkpoint of a model of text"));
  }
  // All ranks share one copy of the model, however it was trained.
  config.mutable_mesh()->set_tensor(world_size);
  config.mutable_mesh()->set_data(1);
  config.mutable_mesh()->set_sequence_parallel(false);
  config.mutable_batch()->set_micro_batch(0);
  // These are settings of training: the weights are bf16, and a text has any length.
  config.mutable_precision()->set_fp8_layers(false);
  ISTHMUS_RETURN_IF_ERROR(ResolveConfig(config, world_size, loaded.folder));
  ISTHMUS_RETURN_IF_ERROR(CheckHolds(loaded.folder, loaded.manifest, config));
  ISTHMUS_ASSIGN_OR_RETURN(loaded.tables.clusters, LoadClusters(loaded.folder, loaded.manifest));

  const bool stored = request.tokenizer.empty();
  const std::string path = stored ? loaded.folder + "/" + kTokenizerFile : request.tokenizer;
  ISTHMUS_ASSIGN_OR_RETURN(loaded.tokenizer, stored ? LoadStoredTokenizer(path) : Tokenizer::Load(path));
  if (loaded.tokenizer->fingerprint() != loaded.manifest.tokenizer_fingerprint()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path,
                     ": is not the tokenizer that the model was trained with; leave --tokenizer out, or give "
                     "that one"));
  }
  // A document begins after the end of another.
  loaded.tokens.push_back(loaded.tokenizer->end_of_text());
  ISTHMUS_RETURN_IF_ERROR(loaded.tokenizer->Encode(request.prompt, loaded.tokens));
  return loaded;
}

// Writes text as its tokens come. It holds back bytes of a character that is not complete yet.
class TextStream {
 public:
  TextStream(const Tokenizer& tokenizer, std::ostream& out) : tokenizer_(tokenizer), out_(out) {}

  absl::Status Write(const std::vector<int32_t>& tokens, bool last) {
    ISTHMUS_ASSIGN_OR_RETURN(const std::string text, tokenizer_.Decode(tokens));
    if (!last && absl::EndsWith(text, "\xEF\xBF\xBD")) return absl::OkStatus();
    if (text.size() > written_) out_ << text.substr(written_) << std::flush;
    written_ = std::max(written_, text.size());
    if (last) out_ << std::endl;
    return out_ ? absl::OkStatus() : absl::FailedPreconditionError("the output can't be written");
  }

 private:
  const Tokenizer& tokenizer_;
  std::ostream& out_;
  size_t written_ = 0;
};

absl::Status Generate(const SampleRequest& request, Loaded& loaded, CommandContext& context) {
  const auto& config = loaded.manifest.config();
  ISTHMUS_ASSIGN_OR_RETURN(ChosenDevice device, ChooseDevice(request.device, config.precision().compute(),
                                                             context.mpi.local_rank(), context.world, "--device"));
  Stream& stream = device.stream;
  ISTHMUS_ASSIGN_OR_RETURN(const Mesh mesh, Mesh::Create(context.world, context.world.size(), 1, stream));
  const int64_t longest = config.data().sequence_length();
  const int64_t window =
      std::min(longest, static_cast<int64_t>(loaded.tokens.size()) + std::min(request.tokens, longest));
  auto created = TextGenerator::Create(config, window, mesh, stream, loaded.tables);
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(context.world, created.status()));
  const std::unique_ptr<TextGenerator> generator = *std::move(created);
  ISTHMUS_RETURN_IF_ERROR(
      AgreeOnStatus(context.world, LoadWeights(loaded.folder, loaded.manifest, generator->parameters())));

  SamplingOptions sampling = request.sampling;
  sampling.vocabulary = loaded.tokenizer->vocabulary();
  TokenSampler sampler(sampling);
  TextStream text(*loaded.tokenizer, context.out);
  // The token before the prompt is not part of the text.
  std::vector<int32_t> shown(loaded.tokens.begin() + 1, loaded.tokens.end());
  const auto write = [&](bool last) {
    return AgreeOnStatus(context.world, context.world.rank() == 0 ? text.Write(shown, last) : absl::OkStatus());
  };
  for (int64_t i = 0; i < request.tokens; ++i) {
    ISTHMUS_ASSIGN_OR_RETURN(const int32_t token, generator->Next(loaded.tokens, sampler));
    if (token == loaded.tokenizer->end_of_text()) break;
    loaded.tokens.push_back(token);
    shown.push_back(token);
    ISTHMUS_RETURN_IF_ERROR(write(false));
  }
  return write(true);
}

}  // namespace

absl::Status SampleCommand(absl::Span<const std::string> arguments, CommandContext& context) {
  SampleRequest request;
  Options options("isthmus sample",
                  "Continues a prompt with the weights of a checkpoint; under mpirun the ranks share the model.");
  options.Add("checkpoint", "FOLDER", "a checkpoint, or a run folder (its newest one)", &request.checkpoint, true)
      .Add("prompt", "TEXT", "text to continue", &request.prompt)
      .Add("tokens", "N", "tokens to write at most; the model may end the text before", &request.tokens)
      .Add("temperature", "X", "0: always the most probable token", &request.sampling.temperature)
      .Add("top-k", "N", "choose among the N most probable tokens; 0: all", &request.sampling.top_k)
      .Add("top-p", "X", "choose among the most probable tokens that reach X in sum", &request.sampling.top_p)
      .Add("seed", "N", "another seed, another text", &request.seed)
      .Add("tokenizer", "FILE", "SentencePiece model instead of the checkpoint's own", &request.tokenizer)
      .Add("device", "WHERE", "auto (GPUs where every rank has one), cpu or cuda", &request.device_name);
  ISTHMUS_RETURN_IF_ERROR(options.Parse(arguments));
  if (options.help_wanted()) {
    if (context.world.rank() == 0) context.out << options.Help();
    return absl::OkStatus();
  }
  if (!proto::DeviceKind_Parse(absl::AsciiStrToUpper(request.device_name), &request.device)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--device: found \"", request.device_name, "\"; accepts auto, cpu, cuda"));
  }
  request.sampling.seed = static_cast<uint64_t>(request.seed);
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(context.world, StartThreads(ThreadsPerRank(context.mpi.local_size()))));
  ISTHMUS_RETURN_IF_ERROR(CheckRequest(request));
  Loaded agreed;
  ISTHMUS_ASSIGN_OR_RETURN(agreed.folder, AgreedCheckpoint(request.checkpoint, context.world));
  ISTHMUS_ASSIGN_OR_RETURN(agreed.manifest, AgreedManifest(agreed.folder, context.world));
  auto loaded = Load(request, std::move(agreed), context.world.size());
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(context.world, loaded.status()));
  return Generate(request, *loaded, context);
}

}  // namespace isthmus
