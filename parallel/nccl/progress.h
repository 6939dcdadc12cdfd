// Decides when an operation on the device is late, and ends a communicator that does not block. It does not include
// NCCL, so that it is tested on machines without a GPU.
#ifndef ISTHMUS_PARALLEL_NCCL_PROGRESS_H_
#define ISTHMUS_PARALLEL_NCCL_PROGRESS_H_

#include <absl/time/time.h>

#include <algorithm>
#include <cstdint>

#include "parallel/wait_clock.h"

namespace isthmus {

// Returns how many operations have ended, at least. They end in their order, and `finished` of those `started` have
// ended before. Only the latest `events` operations have an event of their own: an earlier one has ended if one of
// these has. `has_ended(sequence)` asks the event of such an operation.
template <typename HasEnded>
int64_t EndedOperations(int64_t started, int64_t finished, int64_t events, const HasEnded& has_ended) {
  if (finished < started && has_ended(started - 1)) return started;
  int64_t next = std::max(finished, started - events);
  while (next < started && has_ended(next)) finished = ++next;
  return finished;
}

// Measures how long operations, which end in their order, have stood still. It is asked many times a second.
class NcclProgress {
 public:
  explicit NcclProgress(absl::Duration now) : still_(now) {}

  // True if some of the operations `started` are not `finished`, and none has ended for as long as `deadline`. Time in
  // which this process was stopped does not count.
  bool IsLate(int64_t started, int64_t finished, absl::Duration deadline, absl::Duration now) {
    if (finished == started || finished > finished_) still_ = WaitClock(now);
    finished_ = finished;
    return still_.Elapsed(now) >= deadline;
  }

 private:
  int64_t finished_ = 0;
  WaitClock still_;
};

// The result of a call, or the state of a communicator: ncclSuccess, ncclInProgress, or anything else.
enum class NcclState { kDone, kGoesOn, kFailed };

// Waits for a call that may go on in the background, and returns its result; kGoesOn means that it outlasted the
// deadline. `Calls` has State(), Pause(), and Now() as in runtime/monotonic.h.
template <typename Calls>
NcclState AwaitNccl(Calls& calls, NcclState state, absl::Duration deadline) {
  WaitClock clock(calls.Now());
  while (state == NcclState::kGoesOn && clock.Elapsed(calls.Now()) <= deadline) {
    calls.Pause();
    state = calls.State();
  }
  return state;
}

// Ends a communicator on which no call has failed. A communicator that does not block must be finalised first, which
// may need the other ranks of its node. It is destroyed only once that is done. If it fails or takes too long, the
// communicator is aborted. `Calls` also has Finalize(), Destroy() and Abort(). See NCCL's user guide, "Destroying a
// communicator".
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
