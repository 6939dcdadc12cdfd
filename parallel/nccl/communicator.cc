// Collectives by NCCL on a stream of their own: they start when what the computing stream has been given so far is
// done, and Wait lets the computing stream, not the host, wait for them.
//
// While the computing stream is captured, the same events order the collectives within the graph. They stand for no
// moment then, and to query one would spoil the capture: captured operations have events of their own, which the
// watchdog never sees. It learns of a replayed graph by Replayed.
#include "parallel/communicator.h"

#include <absl/base/thread_annotations.h>
#include <absl/strings/str_cat.h>
#include <absl/time/clock.h>
#include <nccl.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "parallel/host_bytes.h"
#include "parallel/library_versions.h"
#include "parallel/nccl/progress.h"
#include "parallel/wait_clock.h"
#include "runtime/cuda/context.h"
#include "runtime/cuda/error.h"
#include "runtime/monotonic.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

absl::StatusOr<ncclDataType_t> TypeOf(const Tensor& tensor) {
  switch (tensor.dtype) {
    case DType::kFloat32:
      return ncclFloat32;
    case DType::kBFloat16:
      return ncclBfloat16;
    case DType::kFloat64:
      return ncclFloat64;
    case DType::kInt32:
      return ncclInt32;
    case DType::kUInt8:
      return ncclUint8;
    case DType::kFloat8E4M3:
    case DType::kFloat8E5M2:
      break;
  }
  return absl::InvalidArgumentError(absl::StrCat("NCCL does not know the type of ", tensor.Describe()));
}

ncclRedOp_t OperationOf(Reduction reduction) {
  switch (reduction) {
    case Reduction::kMax:
      return ncclMax;
    case Reduction::kMin:
      return ncclMin;
    default:
      return ncclSum;
  }
}

size_t Count(const Tensor& tensor) { return static_cast<size_t>(tensor.size()); }

class NcclCommunicator : public Communicator {
 public:
  NcclCommunicator(std::unique_ptr<Communicator> host, const Stream& stream, absl::Duration deadline)
      : host_(std::move(host)), stream_(stream), deadline_(deadline) {}

  ~NcclCommunicator() override {
    stop_ = true;
    if (watchdog_.joinable()) watchdog_.join();
    End();
    for (cudaEvent_t event : done_) {
      if (event != nullptr) cudaEventDestroy(event);
    }
    for (cudaEvent_t event : captured_done_) {
      if (event != nullptr) cudaEventDestroy(event);
    }
    if (ready_ != nullptr) cudaEventDestroy(ready_);
    if (queue_ != nullptr) cudaStreamDestroy(queue_);
  }

  // Collective over the host group.
  absl::Status Open() {
    ISTHMUS_RETURN_IF_ERROR(
        cuda::Check(cudaStreamCreateWithFlags(&queue_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags"));
    ISTHMUS_RETURN_IF_ERROR(NewEvent(ready_));
    for (cudaEvent_t& event : done_) ISTHMUS_RETURN_IF_ERROR(NewEvent(event));
    for (cudaEvent_t& event : captured_done_) ISTHMUS_RETURN_IF_ERROR(NewEvent(event));
    // Captured collectives are to take the way of others: NCCL would register their buffers for a graph, and choose
    // other numbers of channels, hence other orders of sums, than outside. Who sets it otherwise gets that.
    setenv("NCCL_GRAPH_REGISTER", "0", /*replace=*/0);
    ncclUniqueId id{};
    absl::Status status;
    if (rank() == 0) status = Settled([&] { return ncclGetUniqueId(&id); }, "ncclGetUniqueId");
    ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(*host_, status));
    std::string bytes(id.internal, sizeof(id.internal));
    ISTHMUS_RETURN_IF_ERROR(BroadcastBytes(*host_, bytes, 0));
    std::copy(bytes.begin(), bytes.end(), id.internal);
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    record_ = host_->record();
    if (record_.ring != nullptr) {
      const CollectiveGroup group = record_.ring->groups()[static_cast<size_t>(record_.group)];
      record_.group = record_.ring->AddGroup(group.name + " by NCCL", group.root, group.size);
    }
    status = Settled([&] { return ncclCommInitRankConfig(&communicator_, size(), id, rank(), &config); },
                     "ncclCommInitRankConfig");
    ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(*host_, status));
    watchdog_ = std::thread([this] { Watch(); });
    return absl::OkStatus();
  }

  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }
  const std::string& name() const override { return host_->name(); }
  Communicator& host() override { return *host_; }

  absl::StatusOr<Ticket> StartAllReduce(const Tensor& data, Reduction reduction) override {
    ISTHMUS_ASSIGN_OR_RETURN(const ncclDataType_t type, TypeOf(data));
    return Start("all_reduce", {data}, [&] {
      return ncclAllReduce(data.data, data.data, Count(data), type, OperationOf(reduction), communicator_, queue_);
    });
  }
  absl::StatusOr<Ticket> StartReduceScatter(const Tensor& input, const Tensor& output) override {
    ISTHMUS_ASSIGN_OR_RETURN(const ncclDataType_t type, TypeOf(input));
    ISTHMUS_RETURN_IF_ERROR(CheckBlocks("reduce_scatter", output, input));
    return Start("reduce_scatter", {input, output}, [&] {
      return ncclReduceScatter(input.data, output.data, Count(output), type, ncclSum, communicator_, queue_);
    });
  }
  absl::StatusOr<Ticket> StartAllGather(const Tensor& input, const Tensor& output) override {
    ISTHMUS_ASSIGN_OR_RETURN(const ncclDataType_t type, TypeOf(input));
    ISTHMUS_RETURN_IF_ERROR(CheckBlocks("all_gather", input, output));
    return Start("all_gather", {input, output},
                 [&] { return ncclAllGather(input.data, output.data, Count(input), type, communicator_, queue_); });
  }
  absl::StatusOr<Ticket> StartBroadcast(const Tensor& data, int root) override {
    ISTHMUS_ASSIGN_OR_RETURN(const ncclDataType_t type, TypeOf(data));
    return Start("broadcast", {data},
                 [&] { return ncclBroadcast(data.data, data.data, Count(data), type, root, communicator_, queue_); });
  }

  absl::Status Wait(Ticket ticket) override {
    if (ticket.sequence < 0) return absl::OkStatus();
    ISTHMUS_RETURN_IF_ERROR(Health());
    // Operations end in order: the event of a later one does for one whose event has been used again.
    return cuda::Check(cudaStreamWaitEvent(stream_.cuda().stream, EventOf(ticket.sequence), 0), "cudaStreamWaitEvent");
  }
  absl::Status Progress() override { return Health(); }

  bool capturable() const override { return true; }
  absl::Status Replayed() override {
    ISTHMUS_RETURN_IF_ERROR(Health());
    const std::lock_guard lock(mutex_);
    RecordStart("captured work", 0);
    return cuda::Check(cudaEventRecord(EventOf(sequence_++), stream_.cuda().stream), "cudaEventRecord");
  }

  std::shared_ptr<void> Register(const Tensor& memory) override {
    void* handle = nullptr;
    const absl::Status status =
        memory.contiguous()
            ? Settled(
                  [&] {
                    return ncclCommRegister(communicator_, memory.data, static_cast<size_t>(memory.bytes()), &handle);
                  },
                  "ncclCommRegister", /*needed=*/false)
            : absl::InvalidArgumentError("memory with gaps");
    // Some ranks with registered buffers and others without is what NCCL can't do.
    const absl::Status agreed = AgreeOnStatus(*host_, status);
    const auto deregister = [this](void* registered) {
      const std::lock_guard lock(mutex_);
      if (registered != nullptr && !failed_) ncclCommDeregister(communicator_, registered);
    };
    if (agreed.ok()) return handle != nullptr ? std::shared_ptr<void>(handle, deregister) : nullptr;
    deregister(handle);
    stream_.Note(absl::StrCat("buffers are not registered with NCCL: ", agreed.message()));
    return nullptr;
  }

  absl::Status Send(const Tensor& data, int destination) override {
    ISTHMUS_ASSIGN_OR_RETURN(const ncclDataType_t type, TypeOf(data));
    return Complete(Start("send", {data},
                          [&] { return ncclSend(data.data, Count(data), type, destination, communicator_, queue_); }));
  }
  absl::Status Receive(const Tensor& data, int source) override {
    ISTHMUS_ASSIGN_OR_RETURN(const ncclDataType_t type, TypeOf(data));
    return Complete(Start("receive", {data},
                          [&] { return ncclRecv(data.data, Count(data), type, source, communicator_, queue_); }));
  }
  absl::Status Barrier() override {
    ISTHMUS_RETURN_IF_ERROR(stream_.Synchronize());
    return host_->Barrier();
  }

  void set_deadline(absl::Duration deadline) override {
    host_->set_deadline(deadline);
    const std::lock_guard lock(mutex_);
    deadline_ = deadline;
  }

  absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, int key, std::string name) override {
    ISTHMUS_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> part, host_->Split(color, key, std::move(name)));
    return MakeNcclCommunicator(std::move(part), stream_, Deadline());
  }
  Record record() const override { return record_; }
  void Abort(int exit_status) override { host_->Abort(exit_status); }

 private:
  // Operations whose ends are told apart; older ones share the event of a later one.
  static constexpr int64_t kEvents = 64;
  // Other ranks end their communicators at about the same time, or are gone.
  static constexpr absl::Duration kEndDeadline = absl::Seconds(10);

  static absl::Status NewEvent(cudaEvent_t& event) {
    return cuda::Check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  }
  // Tickets of captured operations count from here on.
  static constexpr int64_t kFirstCaptured = int64_t{1} << 62;

  cudaEvent_t EventOf(int64_t sequence) const {
    const auto index = static_cast<size_t>(sequence % kEvents);
    return sequence >= kFirstCaptured ? captured_done_[index] : done_[index];
  }
  absl::StatusOr<bool> Capturing() const {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    ISTHMUS_RETURN_IF_ERROR(
        cuda::Check(cudaStreamIsCapturing(stream_.cuda().stream, &status), "cudaStreamIsCapturing"));
    return status != cudaStreamCaptureStatusNone;
  }

  absl::Status Late(absl::string_view operation, int64_t sequence) const {
    const std::string number = sequence >= 0 ? absl::StrCat(" number ", sequence) : "";
    return absl::DeadlineExceededError(absl::StrCat(name(), " group: ", operation, number, " on rank ", rank(), " of ",
                                                    size(),
                                                    " outlasted its deadline; another rank is late, hung or gone"));
  }

  static NcclState StateOf(ncclResult_t result) {
    return result == ncclSuccess      ? NcclState::kDone
           : result == ncclInProgress ? NcclState::kGoesOn
                                      : NcclState::kFailed;
  }

  // The calls that AwaitNccl and EndNccl (parallel/nccl/progress.h) need. The watchdog may end the communicator, and
  // thereby free it, at any time. So NCCL is called only under the mutex and while the communicator has not failed.
  struct Calls {
    NcclCommunicator& all;
    ncclResult_t result = ncclInProgress;  // of the latest call

    NcclState State() {
      const std::lock_guard lock(all.mutex_);
      if (all.failed_) return NcclState::kFailed;
      ncclResult_t state = ncclSuccess;
      result = ncclCommGetAsyncError(all.communicator_, &state);
      if (result == ncclSuccess) result = state;
      return StateOf(result);
    }
    static void Pause() { absl::SleepFor(absl::Microseconds(20)); }
    static absl::Duration Now() { return MonotonicNow(); }
    // These three run at the end, when there is no other thread.
    NcclState Finalize() const { return StateOf(ncclCommFinalize(all.communicator_)); }
    void Destroy() const { ncclCommDestroy(all.communicator_); }
    void Abort() const { ncclCommAbort(all.communicator_); }
  };

  // The final result of a call that may go on in the background. `needed`: the communicator is of no use without it.
  template <typename Call>
  absl::Status Settled(const Call& call, const char* name, bool needed = true) {
    Calls calls{.all = *this};
    bool over = false;
    {
      const std::lock_guard lock(mutex_);
      if (failed_) return failure_;
      calls.result = call();
      // As long as there is no communicator, a call has ended when it returns.
      over = communicator_ == nullptr;
    }
    const NcclState state = over ? StateOf(calls.result) : AwaitNccl(calls, StateOf(calls.result), Deadline());
    if (state == NcclState::kDone) return absl::OkStatus();
    const std::lock_guard lock(mutex_);
    if (state == NcclState::kGoesOn && !failed_) Fail(Late(name, -1));
    if (failed_) return failure_;
    broken_ = broken_ || needed;
    const char* detail = ncclGetLastError(communicator_);
    return absl::UnavailableError(absl::StrCat(this->name(), " group, rank ", rank(), ": ", name, ": ",
                                               ncclGetErrorString(calls.result), detail != nullptr ? ": " : "",
                                               detail != nullptr ? detail : ""));
  }

  // To be called when there is no watchdog.
  void End() {
    if (communicator_ == nullptr) return;
    Calls calls{.all = *this};
    if (broken_) return calls.Abort();
    EndNccl(calls, std::min(Deadline(), kEndDeadline));
  }

  absl::Status CheckBlocks(const char* operation, const Tensor& block, const Tensor& whole) const {
    if (block.dtype == whole.dtype && block.size() * size() == whole.size()) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(name(), " group: ", operation, " of ", size(), " blocks ",
                                                   block.Describe(), " and the whole ", whole.Describe()));
  }

  template <typename Call>
  absl::StatusOr<Ticket> Start(const char* operation, std::initializer_list<Tensor> tensors, const Call& call) {
    for (const Tensor& tensor : tensors) {
      if (tensor.contiguous()) continue;
      return absl::InvalidArgumentError(
          absl::StrCat(name(), " group: ", operation, " of ", tensor.Describe(), "; needs contiguous elements"));
    }
    ISTHMUS_RETURN_IF_ERROR(Health());
    ISTHMUS_ASSIGN_OR_RETURN(const bool capturing, Capturing());
    ISTHMUS_RETURN_IF_ERROR(cuda::Check(cudaEventRecord(ready_, stream_.cuda().stream), "cudaEventRecord"));
    ISTHMUS_RETURN_IF_ERROR(cuda::Check(cudaStreamWaitEvent(queue_, ready_, 0), "cudaStreamWaitEvent"));
    ISTHMUS_RETURN_IF_ERROR(Settled(call, operation));
    if (capturing) {
      const Ticket ticket{captured_sequence_++};
      ISTHMUS_RETURN_IF_ERROR(cuda::Check(cudaEventRecord(EventOf(ticket.sequence), queue_), "cudaEventRecord"));
      return ticket;
    }
    const std::lock_guard lock(mutex_);
    RecordStart(operation, tensors.size() > 0 ? std::max(tensors.begin()->bytes(), (tensors.end() - 1)->bytes()) : 0);
    const Ticket ticket{sequence_++};
    ISTHMUS_RETURN_IF_ERROR(cuda::Check(cudaEventRecord(EventOf(ticket.sequence), queue_), "cudaEventRecord"));
    return ticket;
  }

  absl::Status Complete(const absl::StatusOr<Ticket>& ticket) {
    ISTHMUS_RETURN_IF_ERROR(ticket.status());
    ISTHMUS_RETURN_IF_ERROR(Wait(*ticket));
    ISTHMUS_RETURN_IF_ERROR(stream_.Synchronize());
    return Health();
  }

  // Captured operations are recorded each time that they run, as one. Ends are noticed by the watchdog, 20 ms late.
  void RecordStart(const char* operation, int64_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    operations_[static_cast<size_t>(sequence_ % kEvents)] = operation;
    if (record_.ring != nullptr) record_.ring->Start(record_.group, sequence_, operation, bytes);
  }

  const char* NameOf(int64_t sequence) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return sequence < sequence_ - kEvents ? "an operation" : operations_[static_cast<size_t>(sequence % kEvents)];
  }

  absl::Duration Deadline() {
    const std::lock_guard lock(mutex_);
    return deadline_;
  }

  // Ends all waits for the communicator and frees it. Operations on the device then end without a result: who has
  // waited for some asks Progress() before it uses what they left.
  void Fail(absl::Status why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    failure_ = std::move(why);
    failed_ = true;
    ncclCommAbort(std::exchange(communicator_, nullptr));
  }

  // What has gone wrong, for good.
  absl::Status Health() {
    const std::lock_guard lock(mutex_);
    return failure_;
  }

  // Without the lock once the communicator ends. A call that blocks its thread, as where the queue of the device is
  // full behind a collective that hangs, keeps the lock. A communicator in use can't be aborted: the ring tells the
  // watch over the ranks (launch/watch/rank_watch.h) of the wait, and it ends the process.
  std::unique_lock<std::timed_mutex> LockFromWatchdog(int64_t finished, absl::Duration deadline) {
    std::unique_lock lock(mutex_, std::defer_lock);
    WaitClock blocked(MonotonicNow());
    bool told = false;
    while (!stop_ && !lock.try_lock_for(std::chrono::milliseconds(20))) {
      if (told || blocked.Elapsed(MonotonicNow()) < deadline || record_.ring == nullptr) continue;
      record_.ring->Wait(record_.group, finished);
      told = true;
    }
    return lock;
  }

  // Looks after the operations on the device: the host waits for the GPU, which waits for ranks that may be gone. An
  // abort ends that wait.
  void Watch() {
    if (cudaSetDevice(stream_.cuda().ordinal) != cudaSuccess) return;
    int64_t finished = 0;
    absl::Duration deadline = Deadline();
    NcclProgress progress(MonotonicNow());
    while (!stop_) {
      absl::SleepFor(absl::Milliseconds(20));
      const std::unique_lock lock = LockFromWatchdog(finished, deadline);
      if (!lock.owns_lock() || failed_) return;
      deadline = deadline_;
      const int64_t started = sequence_, before = finished;
      finished = EndedOperations(started, finished, kEvents,
                                 [this](int64_t sequence) { return cudaEventQuery(EventOf(sequence)) == cudaSuccess; });
      if (finished > before && record_.ring != nullptr) record_.ring->EndBefore(record_.group, finished);
      const bool late = progress.IsLate(started, finished, deadline_, MonotonicNow());
      if (finished == started) continue;
      ncclResult_t state = ncclSuccess;
      const bool broken = ncclCommGetAsyncError(communicator_, &state) != ncclSuccess ||
                          (state != ncclSuccess && state != ncclInProgress);
      if (!broken && !late) continue;
      if (record_.ring != nullptr) record_.ring->Wait(record_.group, finished);
      Fail(broken ? absl::UnavailableError(
                        absl::StrCat(name(), " group, rank ", rank(), ": NCCL: ", ncclGetErrorString(state)))
                  : Late(NameOf(finished), finished));
      return;
    }
  }

  const std::unique_ptr<Communicator> host_;
  Record record_;
  const Stream stream_;
  cudaStream_t queue_ = nullptr;  // of the collectives
  cudaEvent_t ready_ = nullptr;   // what the computing stream had been given when an operation started
  std::array<cudaEvent_t, kEvents> done_{}, captured_done_{};
  int64_t captured_sequence_ = kFirstCaptured;  // of the next captured operation
  ncclComm_t communicator_ = nullptr;           // for calls of the training thread; see Calls
  std::atomic<bool> stop_{false};
  std::atomic<bool> failed_{false};  // the communicator was aborted, and freed
  bool broken_ = false;              // a call has failed: the communicator can only be aborted
  std::thread watchdog_;
  std::timed_mutex mutex_;
  absl::Duration deadline_ ABSL_GUARDED_BY(mutex_);
  int64_t sequence_ ABSL_GUARDED_BY(mutex_) = 0;                           // of the next operation
  std::array<const char*, kEvents> operations_ ABSL_GUARDED_BY(mutex_){};  // names, by sequence modulo kEvents
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

bool HasNccl() { return true; }

std::string NcclVersion() {
  int version = 0;
  if (ncclGetVersion(&version) != ncclSuccess) return "";
  return absl::StrCat(version / 10000, ".", version / 100 % 100, ".", version % 100);
}

absl::StatusOr<std::unique_ptr<Communicator>> MakeNcclCommunicator(std::unique_ptr<Communicator> host,
                                                                   const Stream& stream, absl::Duration deadline) {
  auto communicator = std::make_unique<NcclCommunicator>(std::move(host), stream, deadline);
  ISTHMUS_RETURN_IF_ERROR(communicator->Open());
  return communicator;
}

}  // namespace isthmus
