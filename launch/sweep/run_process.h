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

namespace isthmus::sweep {

class RunProcess {
 public:
  // Starts this very program with `arguments`, and OMP_NUM_THREADS = `threads`. Its output goes to the file `log`,
  // after what is there. It gets SIGTERM when the calling thread ends. Errors: by errno.
  static absl::StatusOr<std::unique_ptr<RunProcess>> Start(absl::Span<const std::string> arguments,
                                                           const std::string& log, int threads);
  // Waits for a process that still runs.
  ~RunProcess();
  RunProcess(const RunProcess&) = delete;
  RunProcess& operator=(const RunProcess&) = delete;

  void Signal(int signal) const;
  // Returns the exit status once it has ended: 128 + signal if a signal ended it.
  std::optional<int> Ended();

 private:
  explicit RunProcess(pid_t process) : process_(process) {}
  std::optional<int> Wait(int options);

  const pid_t process_;
  std::optional<int> status_;
};

}  // namespace isthmus::sweep

#endif  // ISTHMUS_LAUNCH_SWEEP_RUN_PROCESS_H_
