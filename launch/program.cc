// Holds the program's table of commands, and the one place where a status becomes an exit status.
#include <absl/strings/str_cat.h>
#include <absl/strings/strip.h>
#include <unistd.h>

#include <csignal>
#include <memory>
#include <optional>
#include <vector>

#include "launch/commands.h"
#include "launch/watch/same_start.h"
#include "runtime/async_writer.h"
#include "runtime/caught.h"
#include "runtime/exit_status.h"
#include "runtime/fault_point.h"
#include "runtime/status.h"
#include "runtime/stop_signals.h"

namespace isthmus {
namespace {

// Ranks end at about the same time: rank 0 has some files to close.
constexpr absl::Duration kEndDeadline = absl::Minutes(5);

struct Command {
  const char* name;
  const char* summary;
  // A command has one of them: it runs on all ranks, or on one process without MPI.
  absl::Status (*parallel)(absl::Span<const std::string>, CommandContext&);
  absl::Status (*single)(absl::Span<const std::string>, std::ostream&);
  // True for training: a signal is a wish to save, not the end, and the results are files, not printed text.
  bool trains = false;
};

constexpr Command kCommands[] = {
    {"train", "pretrain; under mpirun, srun, or alone", TrainCommand, nullptr, true},
    {"sample", "continue a prompt with trained weights", SampleCommand, nullptr},
    {"decompose", "how much gradient the head of a checkpoint or a dump loses", DecomposeCommand, nullptr},
    {"tokenizer", "train a vocabulary; turn text into token shards", nullptr, TokenizerCommand},
    {"data", "check and show token shards", nullptr, DataCommand},
    {"checkpoint", "check and show what training saved", nullptr, CheckpointCommand},
    {"plan", "parameters, memory and predicted speed of a run, without a GPU", nullptr, PlanCommand},
    {"sweep", "compare arms over seeds, each at its own best settings", nullptr, SweepCommand},
    {"report", "one page that compares runs", nullptr, ReportCommand},
    {"doctor", "what this machine has, and how to get the rest", nullptr, DoctorCommand},
};

std::string Help() {
  std::string text =
      "usage: isthmus COMMAND ...\n\nPretrains language models and measures how much gradient the LM head loses.\n\n";
  for (const Command& command : kCommands) {
    absl::StrAppend(&text, "  ", command.name, std::string(12 - std::string(command.name).size(), ' '), command.summary,
                    "\n");
  }
  absl::StrAppend(&text,
                  "\n`isthmus COMMAND --help` or `isthmus help COMMAND` lists a command's options, `isthmus --version` "
                  "says which build this is.\n\n"
                  "Exit status: ",
                  kExitDone, " done, ", kExitBadInput, " bad configuration or input, ", kExitDiverged, " diverged, ",
                  kExitRankFailed, " a rank or collective failed or hung, or saving failed at a signal, ",
                  kExitPreempted, " preempted after a complete save.\n");
  return text;
}

int Finish(const absl::Status& status, std::ostream& out, std::ostream& errors, bool results_are_files = false) {
  Settle(out);
  if (status.ok() && out) return kExitDone;
  if (status.ok()) {
    errors << "isthmus: the output can't be written" << (results_are_files ? "; the run's files are complete" : "")
           << std::endl;
    return results_are_files ? kExitDone : kExitBadInput;
  }
  // Messages about a command line begin with "isthmus train: ".
  errors << "isthmus: " << absl::StripPrefix(status.message(), "isthmus ") << std::endl;
  return ExitStatusOf(status);
}

// Runs the command on an existing world, up to its end on all ranks.
absl::Status RunOnRanks(const Command& command, absl::Span<const std::string> arguments, CommandContext& context) {
  std::vector<std::string> line = {command.name};
  line.insert(line.end(), arguments.begin(), arguments.end());
  Communicator& world = context.world;
  absl::Status status = CheckSameProgram(world, line);
  if (status.ok()) status = command.parallel(arguments, context);
  // MPI's own end waits for all ranks, however long. A lost rank must not keep the others.
  if (ExitStatusOf(status.code()) != kExitRankFailed) {
    world.set_deadline(kEndDeadline);
    if (const absl::Status ended = world.Barrier(); !ended.ok()) status = ended;
  }
  return status;
}

// Ranks that fail together say so once, and leave together; a rank that fails alone ends the job on all.
int RunParallel(const Command& command, absl::Span<const std::string> arguments, std::ostream& out,
                std::ostream& errors, bool out_is_terminal) {
  // This comes before MPI, which takes its time.
  std::optional<StopSignals> signals;
  if (command.trains) signals.emplace();
  FaultPoint("setup.begin");
  auto mpi = MpiRuntime::Initialize();
  if (!mpi.ok()) return Finish(mpi.status(), out, errors);
  const std::unique_ptr<Communicator> world = (*mpi)->World();
  CommandContext context{.mpi = **mpi,
                         .world = *world,
                         .signals = signals.has_value() ? &*signals : nullptr,
                         .out = out,
                         .out_is_terminal = out_is_terminal && world->rank() == 0};
  // Exceptions are caught before MPI ends, because its end waits for all ranks.
  const absl::Status status = CaughtOnRank(world->size(), [&] { return RunOnRanks(command, arguments, context); });
  if (status.ok()) return Finish(status, out, errors, command.trains);
  if (ExitStatusOf(status.code()) == kExitRankFailed) {
    // Other ranks may be anywhere: no collective can be trusted any more.
    errors << "isthmus: rank " << world->rank() << ": " << status.message() << std::endl;
    for (std::ostream* stream : {&out, &errors}) Settle(*stream);
    world->Abort(kExitRankFailed);
  }
  if (world->rank() == 0) Finish(status, out, errors);
  return ExitStatusOf(status);
}

int RunCommand(absl::Span<const std::string> arguments, std::ostream& out, std::ostream& errors, bool out_is_terminal) {
  const std::string name = arguments.empty() ? "" : arguments.front();
  if (name == "help" && arguments.size() > 1) {
    std::vector<std::string> asked(arguments.begin() + 1, arguments.end());
    if (asked.front() != "help") asked.push_back("--help");
    return RunCommand(asked, out, errors, out_is_terminal);
  }
  if (name == "help" || name == "--help" || name == "-h") {
    out << Help();
    return Finish(absl::OkStatus(), out, errors);
  }
  if (name == "version" || name == "--version") {
    out << BuildText() << "\n";
    return Finish(absl::OkStatus(), out, errors);
  }
  for (const Command& command : kCommands) {
    if (name != command.name) continue;
    const auto rest = arguments.subspan(1);
    if (command.trains) {
      // A pipe that nobody reads, or a stopped terminal, must not keep a run from training and saving.
      AsyncStream late_out(STDOUT_FILENO), late_errors(STDERR_FILENO);
      return RunParallel(command, rest, late_out, late_errors, out_is_terminal);
    }
    if (command.parallel != nullptr) return RunParallel(command, rest, out, errors, out_is_terminal);
    return Finish(command.single(rest, out), out, errors);
  }
  errors << (name.empty() ? "" : absl::StrCat("isthmus: unknown command \"", name, "\"\n\n")) << Help();
  return kExitBadInput;
}

}  // namespace

int RunProgram(absl::Span<const std::string> arguments, std::ostream& out, std::ostream& errors, bool out_is_terminal) {
  // A limit on file sizes, or a reader that is gone, should be an error of the write. It must not end the program.
  for (const int signal : {SIGXFSZ, SIGPIPE}) std::signal(signal, SIG_IGN);
  int exit_status = kExitDone;
  const absl::Status status = Caught([&] {
    exit_status = RunCommand(arguments, out, errors, out_is_terminal);
    return absl::OkStatus();
  });
  return status.ok() ? exit_status : Finish(status, out, errors);
}

}  // namespace isthmus
