// How a sweep starts a run: the program itself, on one rank, or a launcher that starts the program on many.
#ifndef ISTHMUS_LAUNCH_SWEEP_LAUNCHER_H_
#define ISTHMUS_LAUNCH_SWEEP_LAUNCHER_H_

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>
#include <absl/types/span.h>

#include <string>
#include <vector>

namespace isthmus::sweep {

class Launcher {
 public:
  // Starts the program itself.
  Launcher() = default;
  // Returns the launcher of a line such as "srun --ntasks=8" or "mpirun -n 2". It is split into words at blanks, and
  // knows no quotes. "none" starts the program itself. Errors: InvalidArgument "isthmus sweep --launcher: …" for a line
  // without a word, and for a first word that is no program, neither as a path nor in PATH.
  static absl::StatusOr<Launcher> Of(absl::string_view line);

  // Whether it is one, rather than the program itself.
  bool launches() const { return !words_.empty(); }
  // Returns the file to execute: the launcher's, or this very program's.
  const std::string& file() const { return file_; }
  // Returns the whole command line of `isthmus arguments`. Its first word is as typed, because mpirun takes a whole path
  // for the place of Open MPI on all hosts.
  std::vector<std::string> LineOf(absl::Span<const std::string> arguments) const;
  // The signal by which a run is asked to save. mpirun and srun hand SIGUSR1 on to all ranks. mpirun would kill them
  // soon after SIGTERM.
  int StopSignal() const;

  // Returns the environment of a run, from that of the sweep. A sweep may itself be a task of mpirun or srun, and its
  // runs are none: what says which rank of how many it is, and how to reach the others, is left out.
  //   Without a launcher the run has OMP_NUM_THREADS = `threads`.
  //   A launcher keeps what describes the allocation (SLURM_JOB_ID, SLURM_NTASKS, …) and the user's OMP_NUM_THREADS.
  std::vector<std::string> EnvironmentOf(absl::Span<const std::string> variables, int threads) const;

 private:
  std::vector<std::string> words_;  // of the launcher; empty: none
  std::string file_ = "/proc/self/exe";
  std::string program_;  // this very one, by its path
};

}  // namespace isthmus::sweep

#endif  // ISTHMUS_LAUNCH_SWEEP_LAUNCHER_H_
