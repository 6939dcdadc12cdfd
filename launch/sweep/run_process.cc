#include "launch/sweep/run_process.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <vector>

#include "runtime/durable_file.h"

namespace isthmus::sweep {
namespace {

constexpr int kNotStarted = 127;

std::vector<std::string> OwnEnvironment() {
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) variables.emplace_back(*variable);
  return variables;
}

std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

struct Program {
  const char* file;
  char* const* line;
  char* const* environment;
  int stop_signal;
};

// Becomes the program, between fork and exec: only calls that are safe after a fork. `log` is open.
[[noreturn]] void BecomeProgram(pid_t parent, int log, const Program& program) {
  // The sweep blocks or ignores signals that its runs must see (runtime/stop_signals.h).
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1, SIGPIPE, SIGXFSZ}) std::signal(signal, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  // Ctrl-C goes to the sweep alone, which asks its runs to save.
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, program.stop_signal);
  const int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (nothing >= 0) dup2(nothing, STDIN_FILENO);
  dup2(log, STDOUT_FILENO);
  dup2(log, STDERR_FILENO);
  if (getppid() == parent) execve(program.file, program.line, program.environment);
  _exit(kNotStarted);
}

}  // namespace

absl::StatusOr<std::unique_ptr<RunProcess>> RunProcess::Start(const Launcher& launcher,
                                                              absl::Span<const std::string> arguments,
                                                              const std::string& log, int threads) {
  const int file = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (file < 0) return FileError(log, "can't open", errno);
  std::vector<std::string> line = launcher.LineOf(arguments),
                           variables = launcher.EnvironmentOf(OwnEnvironment(), threads);
  const std::vector<char*> line_pointers = Pointers(line), variable_pointers = Pointers(variables);
  const Program program{.file = launcher.file().c_str(),
                        .line = line_pointers.data(),
                        .environment = variable_pointers.data(),
                        .stop_signal = launcher.StopSignal()};
  const pid_t parent = getpid(), process = fork();
  if (process == 0) BecomeProgram(parent, file, program);
  const int error = errno;
  close(file);
  if (process < 0) return FileError(launcher.file(), "can't start a run", error);
  return std::unique_ptr<RunProcess>(new RunProcess(process, launcher.StopSignal()));
}

RunProcess::~RunProcess() { Wait(0); }

void RunProcess::AskToSave() const {
  if (!status_.has_value()) kill(process_, stop_signal_);
}

std::optional<int> RunProcess::Ended() { return Wait(WNOHANG); }

std::optional<int> RunProcess::Wait(int options) {
  int status = 0;
  while (!status_.has_value()) {
    const pid_t found = waitpid(process_, &status, options);
    if (found == 0) break;
    if (found < 0 && errno == EINTR) continue;
    status_ = found < 0 ? kNotStarted : WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  }
  return status_;
}

}  // namespace isthmus::sweep
