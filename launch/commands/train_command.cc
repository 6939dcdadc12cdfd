#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <cmath>
#include <memory>
#include <utility>

#include "launch/commands.h"
#include "launch/options.h"
#include "launch/run/count_text.h"
#include "launch/run/head_text.h"
#include "launch/run/loop.h"
#include "launch/run/run_parts.h"
#include "launch/run/run_request.h"
#include "launch/run/setup.h"
#include "launch/threads.h"
#include "launch/watch/rank_watch.h"
#include "launch/watch/same_start.h"
#include "parallel/host_bytes.h"
#include "runtime/caught.h"
#include "runtime/config.h"
#include "runtime/exit_status.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// Rank 0 reads the configuration, so that all ranks work with the same one. Another one on another node is a mistake
// that nobody would see.
absl::StatusOr<proto::RunConfig> SharedConfig(const std::string& path, const std::vector<std::string>& overrides,
                                              Communicator& world) {
  ISTHMUS_RETURN_IF_ERROR(CheckSameFile(world, path));
  std::string text;
  absl::Status status;
  if (world.rank() == 0) {
    const auto config = LoadConfig(path, overrides);
    status = config.status();
    if (config.ok()) text = ConfigText(*config);
  }
  // Rank 0's failure is everybody's: it needs no rank in its message.
  int32_t failed = status.ok() ? 0 : static_cast<int32_t>(status.code());
  ISTHMUS_RETURN_IF_ERROR(world.Broadcast(Tensor(&failed, DType::kInt32, 1, 1), 0));
  if (failed != 0) text = std::string(status.message());
  ISTHMUS_RETURN_IF_ERROR(BroadcastBytes(world, text, 0));
  if (failed != 0) return absl::Status(static_cast<absl::StatusCode>(failed), text);
  return ParseConfig(text, path, {});
}

std::string SummaryText(const RunParts& run) {
  const RunState& summary = run.state;
  if (summary.already_complete) {
    return absl::StrFormat("nothing left to train: the run is complete since step %d\n", summary.steps);
  }
  const double entropy = run.data.unigram_entropy;
  const double below = entropy > 0 ? 100 * (1 - summary.validation_loss / entropy) : 0;
  std::string text = absl::StrFormat(
      "trained %d steps, %s tokens, in %.1f s: loss %.4f\n"
      "validation loss %.4f nats per token, %.1f %% %s the corpus's unigram entropy of %.4f\n",
      summary.steps, CountText(summary.tokens), summary.seconds, summary.train_loss, summary.validation_loss,
      std::abs(below), below < 0 ? "above" : "below", entropy);
  if (summary.head.has_value()) absl::StrAppend(&text, HeadText(*summary.head));
  if (!summary.checkpoint.empty()) absl::StrAppend(&text, "checkpoint: ", summary.checkpoint, "\n");
  return text;
}

}  // namespace

absl::Status TrainCommand(absl::Span<const std::string> arguments, CommandContext& context) {
  std::string path, progress = "auto", resume = "never";
  std::vector<std::string> overrides;
  bool stop_once = false;
  Options options("isthmus train", "Pretrains a model. Start it alone, under mpirun, or under srun --mpi=pmix.");
  options.Add("config", "FILE", "run configuration, text format of proto/config.proto", &path, true)
      .Add("set", "PATH=VALUE", "override a field, for example optimizer.learning_rate=1e-3", &overrides)
      .Add("resume", "HOW",
           "auto: continue from the newest sound checkpoint of the run folder, where there is one; never; or a "
           "checkpoint to continue from, or a run folder with it",
           &resume)
      .Add("progress", "HOW",
           "line: one that is rewritten, plain: lines, auto: line on a terminal, but not under mpirun or srun",
           &progress)
      .Add("stop-once", "", "a second signal does not end it at once; for launchers that repeat signals", &stop_once);
  ISTHMUS_RETURN_IF_ERROR(options.Parse(arguments));
  if (options.help_wanted()) {
    if (context.world.rank() == 0) context.out << options.Help();
    return absl::OkStatus();
  }
  if (stop_once) context.signals->IgnoreLater();
  if (progress != "auto" && progress != "line" && progress != "plain") {
    return absl::InvalidArgumentError(absl::StrCat("--progress: found \"", progress, "\"; accepts auto, line, plain"));
  }
  ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(context.world, StartThreads(ThreadsPerRank(context.mpi.local_size()))));
  const bool line = progress == "line" || (progress == "auto" && context.out_is_terminal);
  ISTHMUS_ASSIGN_OR_RETURN(proto::RunConfig config, SharedConfig(path, overrides, context.world));
  // This is for ranks at the end of training; rank 0 has files to close.
  const absl::Duration end_deadline = absl::Seconds(config.mesh().collective_timeout_seconds()) + Sinks::kCloseDeadline;
  RankWatch watch(context.mpi.ring());
  const RunRequest request = {.config = std::move(config),
                              .source = path,
                              .resume = resume,
                              .signals = *context.signals,
                              .watch = watch,
                              .world = context.world,
                              .local_rank = context.mpi.local_rank(),
                              .display = context.out,
                              .display_is_terminal = line};
  std::unique_ptr<RunParts> run;
  // Exceptions are caught here while the run still exists, as below.
  absl::Status status = CaughtOnRank(context.world.size(), [&]() -> absl::Status {
    ISTHMUS_ASSIGN_OR_RETURN(run, SetUpRun(request));
    return TrainRun(*run);
  });
  if (ExitStatusOf(status.code()) != kExitRankFailed) {
    context.world.set_deadline(end_deadline);
    if (const absl::Status ended = context.world.Barrier(); !ended.ok()) status = ended;
  }
  // This happens while the run still stands: the other things that it would wait for at its end may be what hangs.
  if (ExitStatusOf(status.code()) == kExitRankFailed) return watch.Explain(status);
  watch.Stop();
  if (status.ok() && context.world.rank() == 0) context.out << (line ? "\n" : "") << SummaryText(*run);
  return status;
}

}  // namespace isthmus
