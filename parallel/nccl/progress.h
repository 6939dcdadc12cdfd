// What can be said of NCCL's communicators without NCCL: when an operation on the device is late, and how a
// communicator that does not block is ended. Here, so that it is tested on machines without a GPU.
#ifndef ISTHMUS_PARALLEL_NCCL_PROGRESS_H_
#define ISTHMUS_PARALLEL_NCCL_PROGRESS_H_

#include <absl/time/time.h>

#include <cstdint>

#include "parallel/wait_clock.h"

namespace isthmus {

// How long operations, which end in their order, have stood still. Asked many times a second.
class NcclProgress {
 public:
  explicit NcclProgress(absl::Duration now) : still_(now) {}

  // Whether none of those `started` has ended for as long as `deadline`, though not all are `finished`. Time for which
  // this process was stopped does not count.
  bool IsLate(int64_t started, int64_t finished, absl::Duration deadline, absl::Duration now) {
    if (finished == started || finished > finished_) still_ = WaitClock(now);
    finished_ = finished;
    return still_.Elapsed(now) >= deadline;
  }

 private:
  int64_t finished_ = 0;
  WaitClock still_;
};

// What NCCL says of a call, or of a communicator: ncclSuccess, ncclInProgress, anything else.
enum class NcclState { kDone, kGoesOn, kFailed };

// What a call that may go on in the background has come to; kGoesOn: it outlasted the deadline. `Calls`: State(),
// Pause(), and Now(), of runtime/monotonic.h.
template <typename Calls>
NcclState AwaitNccl(Calls& calls, NcclState state, absl::Duration deadline) {
  WaitClock clock(calls.Now());
  while (state == NcclState::kGoesOn && clock.Elapsed(calls.Now()) <= deadline) {
    calls.Pause();
    state = calls.State();
  }
  return state;
}

// Ends a communicator on which no call has failed. One that does not block must be finalised, which other ranks of its
// node may have to join, and destroyed only once that is done; where it fails or takes too long, it is aborted. `Calls`
// has Finalize(), Destroy() and Abort(), too. NCCL's user guide, "Destroying a communicator".
template <typename Calls>
void EndNccl(Calls& calls, absl::Duration deadline) {
  if (AwaitNccl(calls, calls.Finalize(), deadline) == NcclState::kDone) {
    calls.Destroy();
  } else {
    calls.Abort();
  }
}

}  // namespace isthmus

#endif  // ISTHMUS_PARALLEL_NCCL_PROGRESS_H_
