// Exit statuses of the program (DESIGN section 2); scripts rely on them.
//
// No exception leaves `main` (runtime/caught.h). A program of one process ends with status 2 if it lacks memory or
// threads, or the system gives another error. The same command would fail again. On one of several ranks such an error
// ends the job with status 4, like every failure of one rank alone. A fault of the program is status 4, too.
#ifndef ISTHMUS_RUNTIME_EXIT_STATUS_H_
#define ISTHMUS_RUNTIME_EXIT_STATUS_H_

#include <absl/status/status.h>
#include <absl/strings/cord.h>

namespace isthmus {

inline constexpr int kExitDone = 0;
inline constexpr int kExitBadInput = 2;    // configuration, files, environment
inline constexpr int kExitDiverged = 3;    // non-finite values
inline constexpr int kExitRankFailed = 4;  // a rank or collective failed or hung; or WorthAnotherStart
inline constexpr int kExitPreempted = 5;   // after a complete save: queue me again

constexpr int ExitStatusOf(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kOk:
      return kExitDone;
    case absl::StatusCode::kAborted:
      return kExitDiverged;
    case absl::StatusCode::kCancelled:
      return kExitPreempted;
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnknown:
      return kExitRankFailed;
    default:
      return kExitBadInput;
  }
}

// Marks an error after which launch scripts must start the command again, as after status 4. All ranks have agreed on
// it, so no rank is lost. The same command may well go on, for example because a disk has room again.
inline absl::Status WorthAnotherStart(absl::Status status) {
  status.SetPayload("isthmus/worth-another-start", absl::Cord("yes"));
  return status;
}

inline int ExitStatusOf(const absl::Status& status) {
  return status.GetPayload("isthmus/worth-another-start").has_value() ? kExitRankFailed : ExitStatusOf(status.code());
}

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_EXIT_STATUS_H_
