// These are the subcommands of the program. Each takes the arguments after its name, and writes its results to `out`.
// It returns a status that determines the exit status (runtime/exit_status.h).
#ifndef ISTHMUS_LAUNCH_COMMANDS_H_
#define ISTHMUS_LAUNCH_COMMANDS_H_

#include <absl/status/status.h>
#include <absl/types/span.h>

#include <ostream>
#include <string>

#include "parallel/communicator.h"
#include "runtime/stop_signals.h"

namespace isthmus {

struct CommandContext {
  MpiRuntime& mpi;
  Communicator& world;
  const StopSignals* signals = nullptr;  // from before MPI was initialised; of a command that saves when one comes
  std::ostream& out;
  bool out_is_terminal = false;
};

// These compute on all ranks.
absl::Status TrainCommand(absl::Span<const std::string> arguments, CommandContext& context);
absl::Status SampleCommand(absl::Span<const std::string> arguments, CommandContext& context);
absl::Status DecomposeCommand(absl::Span<const std::string> arguments, CommandContext& context);

// These work on one process.
absl::Status TokenizerCommand(absl::Span<const std::string> arguments, std::ostream& out);
absl::Status PlanCommand(absl::Span<const std::string> arguments, std::ostream& out);
absl::Status DoctorCommand(absl::Span<const std::string> arguments, std::ostream& out);
absl::Status DataCommand(absl::Span<const std::string> arguments, std::ostream& out);
absl::Status SweepCommand(absl::Span<const std::string> arguments, std::ostream& out);
absl::Status ReportCommand(absl::Span<const std::string> arguments, std::ostream& out);
absl::Status CheckpointCommand(absl::Span<const std::string> arguments, std::ostream& out);

// Returns what `isthmus --version` says, one line: version, and the libraries that this build found.
std::string BuildText();

// Runs the program: arguments without the program's name. `errors` receives the message of a failure, once for the
// whole job. Training never waits for `out` and `errors`: it writes to the descriptors of standard output and standard
// error (runtime/async_writer.h). Returns the exit status. A failure of one rank alone ends the job on all.
int RunProgram(absl::Span<const std::string> arguments, std::ostream& out, std::ostream& errors, bool out_is_terminal);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_COMMANDS_H_
