#include <absl/strings/str_cat.h>

#include <cmath>
#include <memory>
#include <string>
#include <utility>

#include "launch/commands.h"
#include "launch/commands/checkpoint_head.h"
#include "launch/commands/dumped_head.h"
#include "launch/commands/head_json.h"
#include "launch/commands/result_path.h"
#include "launch/options.h"
#include "launch/threads.h"
#include "model/measure/tensor_decomposition.h"
#include "ops/loss_form.h"
#include "parallel/mesh.h"
#include "runtime/data/token_dataset.h"
#include "runtime/durable_file.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

struct Request {
  DumpPaths paths;
  LossForm form;  // of a dump
  CheckpointRequest checkpoint;
  std::string json;
  int64_t tensor = 1, data = 0, sample_tokens = 2048;
  int64_t resamples = 0, block_tokens = 0, control_draws = 0;
  bool equal_norm_steps = false;
};

// Checks that the request names either the files of a dump or a checkpoint, which may need a data set.
absl::Status CheckSource(const Request& request) {
  const DumpPaths& paths = request.paths;
  const bool any_dump =
      !absl::StrCat(paths.hidden, paths.targets, paths.head, paths.up, paths.down, paths.bias).empty();
  const bool any_checkpoint = !absl::StrCat(request.checkpoint.checkpoint, request.checkpoint.corpus).empty();
  const bool checkpoint = !request.checkpoint.checkpoint.empty();
  const bool dump = !paths.hidden.empty() && !paths.targets.empty();
  if (any_dump == any_checkpoint || (any_checkpoint && !checkpoint) || (any_dump && !dump)) {
    return absl::InvalidArgumentError(
        "isthmus decompose: accepts either --checkpoint and --corpus, or --hidden, --targets and a head");
  }
  if (checkpoint) {
    if (!paths.counts.empty()) {
      return absl::InvalidArgumentError("--counts: a corpus has its own; accepted with --hidden alone");
    }
    if (request.block_tokens != 0) {
      return absl::InvalidArgumentError("--block: a checkpoint's are its sequences; accepted with --hidden alone");
    }
    if (!request.form.plain()) {
      return absl::InvalidArgumentError("--soft-cap, --z-loss: a checkpoint has its own; accepted with --hidden alone");
    }
    return absl::OkStatus();
  }
  const bool has_down = !paths.up.empty() && !paths.down.empty();
  if (request.checkpoint.jacobian_tokens > 0) {
    return absl::InvalidArgumentError(
        "--jacobian-tokens: tensors alone don't say what a head does; accepted with "
        "--checkpoint alone");
  }
  if (request.checkpoint.sequence_length != 0) {
    return absl::InvalidArgumentError(
        "--sequence-length: tensors have their hidden states; accepted with --checkpoint alone");
  }
  const bool half = paths.up.empty() != paths.down.empty();
  if (half || has_down != paths.head.empty()) {
    return absl::InvalidArgumentError("isthmus decompose: accepts either --head, or both --head-up and --head-down");
  }
  return absl::OkStatus();
}

// Checks that every number is within its range.
absl::Status CheckNumbers(const Request& request) {
  constexpr int64_t kMostRanks = 65536, kMostSampled = 16384;
  const auto accepts = [](const char* option, int64_t found, int64_t least, int64_t most) {
    if (found >= least && found <= most) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("--", option, ": ", found, "; accepts ", least, " to ", most));
  };
  ISTHMUS_RETURN_IF_ERROR(accepts("tensor", request.tensor, 1, kMostRanks));
  ISTHMUS_RETURN_IF_ERROR(accepts("data", request.data, 0, kMostRanks));
  ISTHMUS_RETURN_IF_ERROR(accepts("tokens", request.checkpoint.tokens, 1, int64_t{1} << 31));
  ISTHMUS_RETURN_IF_ERROR(accepts("sample-tokens", request.sample_tokens, 1, kMostSampled));
  ISTHMUS_RETURN_IF_ERROR(accepts("jacobian-tokens", request.checkpoint.jacobian_tokens, 0, kMostSampled));
  // An option that is left out stands for a default of its own.
  const auto accepts_if_given = [&](const char* option, int64_t found, int64_t least, int64_t most) {
    return found == 0 ? absl::OkStatus() : accepts(option, found, least, most);
  };
  ISTHMUS_RETURN_IF_ERROR(accepts_if_given("sequence-length", request.checkpoint.sequence_length, 1, int64_t{1} << 24));
  ISTHMUS_RETURN_IF_ERROR(accepts_if_given("block", request.block_tokens, 1, int64_t{1} << 31));
  ISTHMUS_RETURN_IF_ERROR(accepts("bootstrap", request.resamples, 0, 100'000));
  if (request.control_draws == 1) {
    return absl::InvalidArgumentError("--controls: 1; accepts 0 (none), and 2 to 10000 for a deviation");
  }
  ISTHMUS_RETURN_IF_ERROR(accepts("controls", request.control_draws, 0, 10'000));
  for (const auto& [option, value] :
       {std::pair("soft-cap", request.form.soft_cap), std::pair("z-loss", request.form.z_loss)}) {
    if (std::isfinite(value) && value >= 0) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("--", option, ": ", value, "; accepts 0 (none) and finite numbers above"));
  }
  return absl::OkStatus();
}

absl::Status CheckRequest(Request& request, int world) {
  ISTHMUS_RETURN_IF_ERROR(CheckSource(request));
  ISTHMUS_RETURN_IF_ERROR(CheckNumbers(request));
  if (world == 1) {
    if (request.data == 0) request.data = 1;
    return absl::OkStatus();
  }
  if (request.data == 0) request.data = world / request.tensor;
  if (request.tensor * request.data == world) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--tensor ", request.tensor, " × --data ", request.data,
                                                 " is not the ", world,
                                                 " ranks that were started; start that many, or one alone"));
}

absl::StatusOr<HeadFigures> FiguresOf(const Request& request, HeadTensors tensors, const Mesh& mesh) {
  tensors.sample_tokens = request.sample_tokens;
  tensors.equal_norm_steps = request.equal_norm_steps;
  tensors.resamples = request.resamples;
  tensors.control_draws = request.control_draws;
  if (request.resamples == 0) tensors.block_tokens = 0;
  return DecomposeTensors(tensors, mesh.tensor(), mesh.data());
}

// A head that is not linear has the shares of single tokens' gradients alone.
absl::StatusOr<HeadFigures> FiguresOf(const Request& request, const CheckpointHead& head, const Mesh& mesh) {
  HeadFigures figures = {.not_measured = head.not_linear(), .linear = head.not_linear().empty()};
  if (!figures.linear && request.equal_norm_steps) {
    return absl::InvalidArgumentError(
        absl::StrCat("--equal-norm-steps: leave it out; the head has no such steps: ", head.not_linear()));
  }
  if (!figures.linear && (request.resamples > 0 || request.control_draws > 0)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--bootstrap, --controls: leave them out; the head has no such figures: ", head.not_linear()));
  }
  if (figures.linear) {
    HeadTensors tensors = head.Tensors();
    tensors.block_tokens = head.sequence_length();
    ISTHMUS_ASSIGN_OR_RETURN(figures, FiguresOf(request, std::move(tensors), mesh));
  }
  figures.visible = head.visible();
  return figures;
}

absl::Status WriteFigures(const Request& request, const HeadFigures& measurement, CommandContext& context) {
  absl::Status written;
  if (context.world.rank() == 0) {
    const std::string json = HeadJson(measurement);
    if (!request.json.empty()) written = WriteDurably(request.json, json, FileOwner::kUser);
    // If the file can't be written, the result of minutes of work goes to standard output.
    if (request.json.empty() || !written.ok()) context.out << json;
  }
  return AgreeOnStatus(context.world, written);
}

// Checks that the figures can go where the request says, and destroy nothing that they are computed from.
absl::Status CheckJsonPath(const Request& request) {
  const DumpPaths& paths = request.paths;
  CommandInputs inputs;
  for (const std::string& file : {paths.hidden, paths.targets, paths.head, paths.up, paths.down, paths.bias,
                                  paths.counts, request.checkpoint.corpus}) {
    if (!file.empty()) inputs.files.push_back(file);
  }
  if (!request.checkpoint.checkpoint.empty()) inputs.folders.push_back(request.checkpoint.checkpoint);
  // The reader of a folder without shards reports it.
  const auto shards = FindTokenShards(absl::MakeConstSpan(&request.checkpoint.corpus, 1));
  if (shards.ok() && !request.checkpoint.corpus.empty())
    inputs.files.insert(inputs.files.end(), shards->begin(), shards->end());
  return CheckResultPath("--json", request.json, inputs);
}

absl::Status Decompose(const Request& request, CommandContext& context) {
  Communicator& world = context.world;
  const bool alone = world.size() == 1;
  if (!request.json.empty()) {
    const bool writes = world.rank() == 0;
    ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world, writes ? CheckJsonPath(request) : absl::OkStatus()));
  }
  // One process stands for all ranks, or each rank stands for itself.
  const int tensor = alone ? 1 : static_cast<int>(request.tensor);
  ISTHMUS_ASSIGN_OR_RETURN(const Mesh mesh, Mesh::Create(world, tensor, 0));
  if (!request.checkpoint.checkpoint.empty()) {
    ISTHMUS_ASSIGN_OR_RETURN(const CheckpointHead head,
                             CheckpointHead::Load(request.checkpoint, static_cast<int>(request.tensor),
                                                  static_cast<int>(request.data), mesh));
    ISTHMUS_ASSIGN_OR_RETURN(const HeadFigures figures, FiguresOf(request, head, mesh));
    return WriteFigures(request, figures, context);
  }
  DumpShards shards{.tensor_ranks = static_cast<int>(request.tensor),
                    .tensor_first = mesh.tensor_rank(),
                    .data_ranks = static_cast<int>(request.data),
                    .data_first = mesh.data_rank()};
  if (alone) {
    shards.tensor_count = shards.tensor_ranks;
    shards.data_count = shards.data_ranks;
  }
  auto dump = DumpedHead::Load(request.paths, shards);
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(world, dump.status()));
  HeadTensors tensors = dump->Tensors();
  tensors.form = request.form;
  constexpr int64_t kBlockTokens = 256;
  tensors.block_tokens = request.block_tokens > 0 ? request.block_tokens : kBlockTokens;
  ISTHMUS_ASSIGN_OR_RETURN(const HeadFigures figures, FiguresOf(request, std::move(tensors), mesh));
  return WriteFigures(request, figures, context);
}

// These say what is decomposed.
void AddSources(Request& request, Options& options) {
  options.Add("checkpoint", "FOLDER", "a checkpoint, or a run folder (its newest one)", &request.checkpoint.checkpoint)
      .Add("corpus", "PATH",
           "with --checkpoint: token shards (.ids) or a folder of them; none for a model that was trained on "
           "data.spamlang",
           &request.checkpoint.corpus)
      .Add("tokens", "N",
           "with --checkpoint: about so many tokens, in whole sequences, equally many for each data rank and at least "
           "one",
           &request.checkpoint.tokens)
      .Add("sequence-length", "T",
           "with --checkpoint: tokens of a sequence, the context of its last hidden state; 0: as the run's",
           &request.checkpoint.sequence_length)
      .Add("hidden", "FILE", "hidden states after the final norm, float32 or float64 [N, D]", &request.paths.hidden)
      .Add("targets", "FILE", "target tokens, int32 or int64 [N]", &request.paths.targets)
      .Add("head", "FILE", "the head's weights, float32 or float64 [V, D]", &request.paths.head)
      .Add("head-up", "FILE", "of a head W = U E: U [V, R]", &request.paths.up)
      .Add("head-down", "FILE", "of a head W = U E: E [R, D]", &request.paths.down)
      .Add("head-bias", "FILE", "the bias of the logits, float32 or float64 [V, 1]; without it there is none",
           &request.paths.bias)
      .Add("counts", "FILE",
           "int32 or int64 [V]: how often each token occurs, for the buckets of frequency; else counted in the targets",
           &request.paths.counts)
      .Add("soft-cap", "C", "of the dumped step's logits, as model.head.soft_cap; 0: none", &request.form.soft_cap)
      .Add("z-loss", "L", "of the dumped step, as model.head.z_loss", &request.form.z_loss)
      .Add("tensor", "T", "tensor ranks: shards of the vocabulary", &request.tensor)
      .Add("data", "R", "data ranks: shards of the tokens; 0: one, under mpirun as many as fit", &request.data);
}

// These say what is found besides.
void AddFigures(Request& request, Options& options) {
  options.Add("sample-tokens", "N", "tokens at most for the singular values of the gradient", &request.sample_tokens)
      .Add("bootstrap", "N",
           "also intervals at 95 % of the lost and the visible part, from so many resamples of whole sequences; for "
           "all tokens and by how frequent their target is; 0: none",
           &request.resamples)
      .Add("block", "N", "with --hidden and --bootstrap: consecutive tokens that a resample takes together; 0: 256",
           &request.block_tokens)
      .Add("controls", "N",
           "also the visible part for N heads in random position, and for N sets of random hidden states with the mean "
           "and covariance of the real ones; 0: none; each of both takes about as long as the other figures",
           &request.control_draws)
      .Add("equal-norm-steps", "",
           "also the sampled tokens' loss after steps of equal norm in their logits: along their gradient, the part "
           "that the head passes on, what a gradient step on the hidden states does, and the best of twice the "
           "head's rank; takes two to three times as long",
           &request.equal_norm_steps)
      .Add("jacobian-tokens", "N",
           "with --checkpoint: also the share of single tokens' gradients that a change of their hidden states can "
           "follow, over at most N of them, for heads of any kind",
           &request.checkpoint.jacobian_tokens)
      .Add("json", "FILE", "where the figures go, one JSON object; else to standard output", &request.json);
}

}  // namespace

absl::Status DecomposeCommand(absl::Span<const std::string> arguments, CommandContext& context) {
  Request request;
  Options options(
      "isthmus decompose",
      "How much of the logit gradient an LM head passes on, of a checkpoint on tokens of a data set or from dumped "
      "tensors (.npy), in float64. Hidden states of a checkpoint are computed in its own precision, 8-bit layers in "
      "bf16. Alone it computes as T x R ranks would; under mpirun it uses them.");
  AddSources(request, options);
  AddFigures(request, options);
  ISTHMUS_RETURN_IF_ERROR(options.Parse(arguments));
  if (options.help_wanted()) {
    if (context.world.rank() == 0) context.out << options.Help();
    return absl::OkStatus();
  }
  ISTHMUS_RETURN_IF_ERROR(CheckRequest(request, context.world.size()));
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(context.world, StartThreads(ThreadsPerRank(context.mpi.local_size()))));
  return Decompose(request, context);
}

}  // namespace isthmus
