#include "launch/sweep/launcher.h"

#include <absl/status/status.h>
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <system_error>

namespace isthmus::sweep {
namespace {

// By these a launcher tells a process which of several ranks it is (parallel/mpi_runtime.cc).
constexpr const char* kOfRanks[] = {"OMPI_COMM_WORLD_", "PMIX_", "PMI_", "SLURM_PROCID=", "SLURM_STEP_NUM_TASKS="};
// By these srun tells its tasks of the step that they are part of. Another srun would take some of them for options,
// such as the cores that this task is bound to.
constexpr const char* kOfSteps[] = {
    "SLURM_STEP", "SLURM_CPU_BIND", "SLURM_MEM_BIND", "SLURM_SRUN_COMM_", "SLURM_LAUNCH_NODE",
    "SLURM_PMIX", "SLURM_GTIDS=",   "SLURM_LOCALID=", "SLURM_NODEID=",    "SLURM_TASK_PID="};
// By these mpirun knows that another one has started it, which it refuses. They are left out under mpirun alone:
// elsewhere the names that begin with OMPI_MCA_ are a user's own settings.
constexpr const char* kOfMpirun[] = {"OMPI_UNIVERSE_SIZE=",
                                     "OMPI_APP_CTX_NUM_PROCS=",
                                     "OMPI_COMMAND=",
                                     "OMPI_ARGV=",
                                     "OMPI_FILE_LOCATION=",
                                     "OMPI_FIRST_RANKS=",
                                     "OMPI_NUM_APP_CTX=",
                                     "OMPI_MCA_orte_",
                                     "OMPI_MCA_ess",
                                     "OMPI_MCA_pmix=",
                                     "OMPI_MCA_initial_wdir=",
                                     "OMPI_MCA_mpi_oversubscribe=",
                                     "OMPI_MCA_shmem_RUNTIME_QUERY_hint=",
                                     "PRTE_LAUNCHED="};

template <size_t count>
bool BeginsWithOneOf(const std::string& variable, const char* const (&names)[count]) {
  return std::any_of(std::begin(names), std::end(names),
                     [&](const char* name) { return absl::StartsWith(variable, name); });
}

bool IsProgram(const std::string& path) {
  std::error_code error;
  return std::filesystem::is_regular_file(path, error) && access(path.c_str(), X_OK) == 0;
}

// Returns the path by which a shell would start `word`; empty if there is none.
std::string FindProgram(const std::string& word) {
  if (absl::StrContains(word, "/")) return IsProgram(word) ? word : "";
  const char* path = std::getenv("PATH");
  for (const absl::string_view folder : absl::StrSplit(path == nullptr ? "/bin:/usr/bin" : path, ':')) {
    const std::string file = absl::StrCat(folder.empty() ? "." : folder, "/", word);
    if (IsProgram(file)) return file;
  }
  return "";
}

}  // namespace

absl::StatusOr<Launcher> Launcher::Of(absl::string_view line) {
  Launcher launcher;
  if (line == "none") return launcher;
  const auto wrong = [&](absl::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat("isthmus sweep --launcher: found \"", line, "\"", what,
                                                   "; accepts none, or a program and its words, for example \"srun "
                                                   "--mpi=pmix --ntasks=8\" or \"mpirun -n 2\""));
  };
  std::error_code error;
  launcher.program_ = std::filesystem::read_symlink(launcher.file_, error).string();
  if (error || !IsProgram(launcher.program_)) {
    return absl::FailedPreconditionError(absl::StrCat("isthmus sweep --launcher: this program is no longer at ",
                                                      launcher.program_, "; start the sweep anew"));
  }
  launcher.words_ = absl::StrSplit(line, absl::ByAnyChar(" \t\r\n"), absl::SkipEmpty());
  if (launcher.words_.empty()) return wrong("");
  launcher.file_ = FindProgram(launcher.words_[0]);
  if (launcher.file_.empty()) return wrong(absl::StrCat(", and there is no program ", launcher.words_[0]));
  return launcher;
}

std::vector<std::string> Launcher::LineOf(absl::Span<const std::string> arguments) const {
  std::vector<std::string> line = words_;
  line.push_back(launches() ? program_ : "isthmus");
  line.insert(line.end(), arguments.begin(), arguments.end());
  return line;
}

int Launcher::StopSignal() const { return launches() ? SIGUSR1 : SIGTERM; }

std::vector<std::string> Launcher::EnvironmentOf(absl::Span<const std::string> variables, int threads) const {
  const auto has = [&](const char* name) {
    return std::any_of(variables.begin(), variables.end(),
                       [&](const std::string& variable) { return absl::StartsWith(variable, name); });
  };
  const bool in_mpirun = has("OMPI_COMM_WORLD_SIZE="), in_step = has("SLURM_STEP_ID=");
  std::vector<std::string> kept;
  for (const std::string& variable : variables) {
    bool dropped = BeginsWithOneOf(variable, kOfRanks);
    if (launches()) {
      dropped = dropped || (in_step && BeginsWithOneOf(variable, kOfSteps)) ||
                (in_mpirun && BeginsWithOneOf(variable, kOfMpirun));
      // A user's settings of PMIx have such names.
      if (absl::StartsWith(variable, "PMIX_MCA_")) dropped = false;
    } else {
      dropped = dropped || absl::StartsWith(variable, "OMP_NUM_THREADS=");
    }
    if (!dropped) kept.push_back(variable);
  }
  if (!launches()) kept.push_back(absl::StrCat("OMP_NUM_THREADS=", threads));
  return kept;
}

}  // namespace isthmus::sweep
