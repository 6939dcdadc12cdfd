// A communicator of NCCL's library. One thread uses it, and another one, its watchdog, may abort it.
#ifndef ISTHMUS_PARALLEL_NCCL_HANDLE_H_
#define ISTHMUS_PARALLEL_NCCL_HANDLE_H_

#include <absl/base/thread_annotations.h>
#include <absl/functional/function_ref.h>
#include <absl/status/status.h>
#include <absl/strings/string_view.h>
#include <absl/time/time.h>
#include <nccl.h>

#include <atomic>
#include <cstdint>
#include <mutex>

#include "parallel/communicator.h"

namespace isthmus {

// The watchdog may end the communicator, and thereby free it, at any time. So NCCL is called only under the mutex and
// while the communicator has not failed.
class NcclHandle {
 public:
  // `group` has the ranks, also for messages; it must outlive this object. `deadline` is that of each call, until
  // set_deadline.
  NcclHandle(const Communicator& group, absl::Duration deadline) : group_(group), deadline_(deadline) {}
  // Ends the communicator. There must be no watchdog any more.
  ~NcclHandle();
  NcclHandle(const NcclHandle&) = delete;
  NcclHandle& operator=(const NcclHandle&) = delete;

  // Makes the communicator; the other ranks do the same with the same `id`. Errors: those of Settled.
  absl::Status Open(const ncclUniqueId& id);

  // Returns the final result of a call that may go on in the background. `call` gets the communicator, which is null
  // before Open; the mutex is held meanwhile. `needed` says that the communicator is of no use without the call.
  // Errors: DeadlineExceeded, for good; Unavailable with NCCL's words; the status that Fail was given.
  absl::Status Settled(absl::FunctionRef<ncclResult_t(ncclComm_t)> call, const char* name, bool needed = true);
  // Undoes ncclCommRegister; null has no effect.
  void Deregister(void* registered);

  void set_deadline(absl::Duration deadline);
  absl::Duration Deadline();
  // Returns what has gone wrong, for good.
  absl::Status Health();

  // Returns DeadlineExceeded. `sequence` is the operation's number, or -1 if it has none.
  absl::Status Late(absl::string_view operation, int64_t sequence) const;

  // The watchdog uses the rest, and holds the mutex meanwhile. The owner may guard data of its own by it, too.
  std::timed_mutex& mutex() const { return mutex_; }
  // Says whether the communicator was aborted, and freed.
  bool failed() const { return failed_; }
  absl::Duration deadline_under_lock() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return deadline_; }
  // Returns OK unless NCCL has found a fault by itself, else Unavailable with its words.
  absl::Status AsyncError() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Ends all waits for the communicator and frees it. Operations on the device then end without a result. Whoever has
  // waited for some asks Health() before using their results.
  void Fail(absl::Status why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

 private:
  struct Calls;

  const Communicator& group_;
  ncclComm_t communicator_ = nullptr;  // null before Open and after Fail
  std::atomic<bool> failed_{false};    // the communicator was aborted, and freed
  bool broken_ = false;                // a call has failed: the communicator can only be aborted
  mutable std::timed_mutex mutex_;
  absl::Duration deadline_ ABSL_GUARDED_BY(mutex_);
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace isthmus

#endif  // ISTHMUS_PARALLEL_NCCL_HANDLE_H_
