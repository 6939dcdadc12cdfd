#include "parallel/nccl/handle.h"

#include <absl/strings/str_cat.h>
#include <absl/time/clock.h>

#include <algorithm>
#include <string>
#include <utility>

#include "parallel/nccl/progress.h"
#include "runtime/monotonic.h"

namespace isthmus {
namespace {

// Other ranks end their communicators at about the same time, or are gone.
constexpr absl::Duration kNcclEndDeadline = absl::Seconds(10);

NcclState NcclStateOf(ncclResult_t result) {
  return result == ncclSuccess ? NcclState::kDone : result == ncclInProgress ? NcclState::kGoesOn : NcclState::kFailed;
}

}  // namespace

// The calls that AwaitNccl and EndNccl (parallel/nccl/progress.h) need.
struct NcclHandle::Calls {
  NcclHandle& all;
  ncclResult_t result = ncclInProgress;  // of the latest call

  NcclState State() {
    const std::lock_guard lock(all.mutex_);
    if (all.failed_) return NcclState::kFailed;
    ncclResult_t state = ncclSuccess;
    result = ncclCommGetAsyncError(all.communicator_, &state);
    if (result == ncclSuccess) result = state;
    return NcclStateOf(result);
  }
  static void Pause() { absl::SleepFor(absl::Microseconds(20)); }
  static absl::Duration Now() { return MonotonicNow(); }
  // These three run at the end, when there is no other thread.
  NcclState Finalize() const { return NcclStateOf(ncclCommFinalize(all.communicator_)); }
  void Destroy() const { ncclCommDestroy(all.communicator_); }
  void Abort() const { ncclCommAbort(all.communicator_); }
};

NcclHandle::~NcclHandle() {
  if (communicator_ == nullptr) return;
  Calls calls{.all = *this};
  if (broken_) {
    calls.Abort();
  } else {
    EndNccl(calls, std::min(Deadline(), kNcclEndDeadline));
  }
}

absl::Status NcclHandle::Open(const ncclUniqueId& id) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  return Settled(
      [&](ncclComm_t) { return ncclCommInitRankConfig(&communicator_, group_.size(), id, group_.rank(), &config); },
      "ncclCommInitRankConfig");
}

absl::Status NcclHandle::Settled(absl::FunctionRef<ncclResult_t(ncclComm_t)> call, const char* name, bool needed) {
  Calls calls{.all = *this};
  bool over = false;
  {
    const std::lock_guard lock(mutex_);
    if (failed_) return failure_;
    calls.result = call(communicator_);
    // As long as there is no communicator, a call has ended when it returns.
    over = communicator_ == nullptr;
  }
  const NcclState state = over ? NcclStateOf(calls.result) : AwaitNccl(calls, NcclStateOf(calls.result), Deadline());
  if (state == NcclState::kDone) return absl::OkStatus();
  const std::lock_guard lock(mutex_);
  if (state == NcclState::kGoesOn && !failed_) Fail(Late(name, -1));
  if (failed_) return failure_;
  broken_ = broken_ || needed;
  const char* detail = ncclGetLastError(communicator_);
  return absl::UnavailableError(absl::StrCat(group_.name(), " group, rank ", group_.rank(), ": ", name, ": ",
                                             ncclGetErrorString(calls.result), detail != nullptr ? ": " : "",
                                             detail != nullptr ? detail : ""));
}

void NcclHandle::Deregister(void* registered) {
  const std::lock_guard lock(mutex_);
  if (registered != nullptr && !failed_) ncclCommDeregister(communicator_, registered);
}

void NcclHandle::set_deadline(absl::Duration deadline) {
  const std::lock_guard lock(mutex_);
  deadline_ = deadline;
}

absl::Duration NcclHandle::Deadline() {
  const std::lock_guard lock(mutex_);
  return deadline_;
}

absl::Status NcclHandle::Health() {
  const std::lock_guard lock(mutex_);
  return failure_;
}

absl::Status NcclHandle::Late(absl::string_view operation, int64_t sequence) const {
  const std::string number = sequence >= 0 ? absl::StrCat(" number ", sequence) : "";
  return absl::DeadlineExceededError(absl::StrCat(group_.name(), " group: ", operation, number, " on rank ",
                                                  group_.rank(), " of ", group_.size(),
                                                  " outlasted its deadline; another rank is late, hung or gone"));
}

absl::Status NcclHandle::AsyncError() const {
  ncclResult_t state = ncclSuccess;
  const bool broken =
      ncclCommGetAsyncError(communicator_, &state) != ncclSuccess || (state != ncclSuccess && state != ncclInProgress);
  if (!broken) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat(group_.name(), " group, rank ", group_.rank(), ": NCCL: ", ncclGetErrorString(state)));
}

void NcclHandle::Fail(absl::Status why) {
  failure_ = std::move(why);
  failed_ = true;
  ncclCommAbort(std::exchange(communicator_, nullptr));
}

}  // namespace isthmus
