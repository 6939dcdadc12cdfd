#include "launch/sweep/run_process.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <iterator>
#include <vector>

#include "runtime/durable_file.h"

namespace isthmus::sweep {
namespace {

constexpr int kNotStarted = 127;

// By these a launcher tells a process which of several ranks it is (parallel/mpi_runtime.cc). A sweep may be one of
// several that mpirun or srun started, and its runs are nobody's ranks.
constexpr const char* kOfLaunchers[] = {"OMPI_COMM_WORLD_", "PMIX_", "PMI_", "SLURM_PROCID=", "SLURM_STEP_NUM_TASKS="};

// Returns the environment of a run of one rank with `threads`.
std::vector<std::string> EnvironmentWith(int threads) {
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const bool dropped = absl::StartsWith(*variable, "OMP_NUM_THREADS=") ||
                         std::any_of(std::begin(kOfLaunchers), std::end(kOfLaunchers),
                                     [&](const char* name) { return absl::StartsWith(*variable, name); });
    if (!dropped) variables.emplace_back(*variable);
  }
  variables.push_back(absl::StrCat("OMP_NUM_THREADS=", threads));
  return variables;
}

std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

// Becomes the program, between fork and exec: only calls that are safe after a fork. `log` is open.
[[noreturn]] void BecomeProgram(pid_t parent, int log, char* const* arguments, char* const* environment) {
  // The sweep blocks signals that its runs must see (runtime/stop_signals.h).
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  // Ctrl-C goes to the sweep alone, which asks its runs to save.
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  const int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (nothing >= 0) dup2(nothing, STDIN_FILENO);
  dup2(log, STDOUT_FILENO);
  dup2(log, STDERR_FILENO);
  if (getppid() == parent) execve("/proc/self/exe", arguments, environment);
  _exit(kNotStarted);
}

}  // namespace

absl::StatusOr<std::unique_ptr<RunProcess>> RunProcess::Start(absl::Span<const std::string> arguments,
                                                              const std::string& log, int threads) {
  const int file = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (file < 0) return FileError(log, "can't open", errno);
  std::vector<std::string> line = {"isthmus"}, variables = EnvironmentWith(threads);
  line.insert(line.end(), arguments.begin(), arguments.end());
  const std::vector<char*> line_pointers = Pointers(line), variable_pointers = Pointers(variables);
  const pid_t parent = getpid(), process = fork();
  if (process == 0) BecomeProgram(parent, file, line_pointers.data(), variable_pointers.data());
  const int error = errno;
  close(file);
  if (process < 0) return FileError("/proc/self/exe", "can't start a run", error);
  return std::unique_ptr<RunProcess>(new RunProcess(process));
}

RunProcess::~RunProcess() { Wait(0); }

void RunProcess::Signal(int signal) const {
  if (!status_.has_value()) kill(process_, signal);
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
