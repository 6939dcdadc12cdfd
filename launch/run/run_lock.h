// Allows one run at a time in a run folder.
#ifndef ISTHMUS_LAUNCH_RUN_RUN_LOCK_H_
#define ISTHMUS_LAUNCH_RUN_RUN_LOCK_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>

namespace isthmus {

// A run's rank 0 holds it for its life: an advisory lock on FOLDER/log/lock, which says who holds it. The system lets
// go of it when the process ends, however it ends. Programs that it starts don't get it.
class RunLock {
 public:
  struct Waiting {
    absl::Duration patience;                       // for a run that is ending; zero: none
    std::function<bool()> stop;                    // true: no longer wait
    std::function<void(const std::string&)> note;  // told once what is waited for
  };
  // Makes the folder if there is none, and changes nothing else in it. Errors: FailedPrecondition when patience is
  // over, naming host, process and time of the run that holds the lock. Cancelled when it was told to stop; by errno
  // for the file.
  static absl::StatusOr<std::unique_ptr<RunLock>> Take(const std::string& folder, const Waiting& waiting);
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

  // Returns a message about a file system that has no locks, so that nothing is held; else empty.
  const std::string& warning() const { return warning_; }

 private:
  RunLock(int descriptor, std::string warning) : descriptor_(descriptor), warning_(std::move(warning)) {}

  int descriptor_;
  std::string warning_;
};

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_RUN_RUN_LOCK_H_
