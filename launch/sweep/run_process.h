// A run of a sweep, as a process of its own: whatever ends it leaves the sweep alone.
#ifndef ISTHMUS_LAUNCH_SWEEP_RUN_PROCESS_H_
#define ISTHMUS_LAUNCH_SWEEP_RUN_PROCESS_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/types/span.h>
#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>

#include "launch/sweep/launcher.h"

namespace isthmus::sweep {

class RunProcess {
 public:
  // Starts `isthmus arguments` by the launcher; without one it computes on `threads`. Its output goes to the file `log`,
  // after what is there. It is asked to save when the calling thread ends. Errors: by errno.
  static absl::StatusOr<std::unique_ptr<RunProcess>> Start(const Launcher& launcher,
                                                           absl::Span<const std::string> arguments,
                                                           const std::string& log, int threads);
  // Waits for a process that still runs.
  ~RunProcess();
  RunProcess(const RunProcess&) = delete;
  RunProcess& operator=(const RunProcess&) = delete;

  // Asks it to save and end. A launcher that has not started its ranks yet may lose a signal, so this is asked again
  // and again, and the run has --stop-once.
  void AskToSave() const;
  // Returns the exit status once it has ended: 128 + signal if a signal ended it.
  std::optional<int> Ended();

 private:
  RunProcess(pid_t process, int stop_signal) : process_(process), stop_signal_(stop_signal) {}
  std::optional<int> Wait(int options);

  const pid_t process_;
  const int stop_signal_;
  std::optional<int> status_;
};

}  // namespace isthmus::sweep

#endif  // ISTHMUS_LAUNCH_SWEEP_RUN_PROCESS_H_
