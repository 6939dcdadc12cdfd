// Collectives by NCCL on a stream of their own. They start when the computing stream has finished all that it has been
// given so far. Wait lets the computing stream, not the host, wait for them.
//
// The queue orders the two streams. The handle makes NCCL's calls and can be aborted. The watchdog notices operations
// that end, are late or fail. It never sees captured operations, and learns of a replayed graph by Replayed.
#include "parallel/communicator.h"

#include <absl/base/thread_annotations.h>
#include <absl/strings/str_cat.h>
#include <absl/time/clock.h>
#include <cuda_runtime.h>
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
#include "parallel/nccl/handle.h"
#include "parallel/nccl/progress.h"
#include "parallel/nccl/queue.h"
#include "parallel/wait_clock.h"
#include "runtime/cuda/context.h"
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
      : host_(std::move(host)), stream_(stream), queue_(stream), handle_(*host_, deadline) {}

  ~NcclCommunicator() override {
    stop_ = true;
    if (watchdog_.joinable()) watchdog_.join();
  }

  // Collective over the host group.
  absl::Status Open() {
    ISTHMUS_RETURN_IF_ERROR(queue_.Open());
    // Captured collectives must work as others do. NCCL would register their buffers for a graph, and choose other
    // numbers of channels, hence other orders of sums, than outside. Whoever sets the variable otherwise gets that.
    setenv("NCCL_GRAPH_REGISTER", "0", /*replace=*/0);
    ncclUniqueId id{};
    absl::Status status;
    if (rank() == 0) status = handle_.Settled([&](ncclComm_t) { return ncclGetUniqueId(&id); }, "ncclGetUniqueId");
    ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(*host_, status));
    std::string bytes(id.internal, sizeof(id.internal));
    ISTHMUS_RETURN_IF_ERROR(BroadcastBytes(*host_, bytes, 0));
    std::copy(bytes.begin(), bytes.end(), id.internal);
    record_ = host_->record();
    if (record_.ring != nullptr) {
      const CollectiveGroup group = record_.ring->groups()[static_cast<size_t>(record_.group)];
      record_.group = record_.ring->AddGroup(group.name + " by NCCL", group.root, group.size);
    }
    ISTHMUS_RETURN_IF_ERROR(AgreeOnStatus(*host_, handle_.Open(id)));
    watchdog_ = std::thread([this] { Watch(); });
    return absl::OkStatus();
  }

  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }
  const std::string& name() const override { return host_->name(); }
  Communicator& host() override { return *host_; }

  absl::StatusOr<Ticket> StartAllReduce(const Tensor& data, Reduction reduction) override {
    ISTHMUS_ASSIGN_OR_RETURN(const ncclDataType_t type, TypeOf(data));
    return Start("all_reduce", {data}, [&](ncclComm_t communicator) {
      return ncclAllReduce(data.data, data.data, Count(data), type, OperationOf(reduction), communicator,
                           queue_.stream());
    });
  }
  absl::StatusOr<Ticket> StartReduceScatter(const Tensor& input, const Tensor& output) override {
    ISTHMUS_ASSIGN_OR_RETURN(const ncclDataType_t type, TypeOf(input));
    ISTHMUS_RETURN_IF_ERROR(CheckBlocks("reduce_scatter", output, input));
    return Start("reduce_scatter", {input, output}, [&](ncclComm_t communicator) {
      return ncclReduceScatter(input.data, output.data, Count(output), type, ncclSum, communicator, queue_.stream());
    });
  }
  absl::StatusOr<Ticket> StartAllGather(const Tensor& input, const Tensor& output) override {
    ISTHMUS_ASSIGN_OR_RETURN(const ncclDataType_t type, TypeOf(input));
    ISTHMUS_RETURN_IF_ERROR(CheckBlocks("all_gather", input, output));
    return Start("all_gather", {input, output}, [&](ncclComm_t communicator) {
      return ncclAllGather(input.data, output.data, Count(input), type, communicator, queue_.stream());
    });
  }
  absl::StatusOr<Ticket> StartBroadcast(const Tensor& data, int root) override {
    ISTHMUS_ASSIGN_OR_RETURN(const ncclDataType_t type, TypeOf(data));
    return Start("broadcast", {data}, [&](ncclComm_t communicator) {
      return ncclBroadcast(data.data, data.data, Count(data), type, root, communicator, queue_.stream());
    });
  }

  absl::Status Wait(Ticket ticket) override {
    if (ticket.sequence < 0) return absl::OkStatus();
    ISTHMUS_RETURN_IF_ERROR(handle_.Health());
    return queue_.AwaitEnd(ticket.sequence);
  }
  absl::Status Progress() override { return handle_.Health(); }

  bool capturable() const override { return true; }
  absl::Status Replayed() override {
    ISTHMUS_RETURN_IF_ERROR(handle_.Health());
    const std::lock_guard lock(handle_.mutex());
    RecordStart("captured work", 0);
    return queue_.MarkReplayedEnd(sequence_++);
  }

  std::shared_ptr<void> Register(const Tensor& memory) override {
    void* handle = nullptr;
    const absl::Status status =
        memory.contiguous()
            ? handle_.Settled(
                  [&](ncclComm_t communicator) {
                    return ncclCommRegister(communicator, memory.data, static_cast<size_t>(memory.bytes()), &handle);
                  },
                  "ncclCommRegister", /*needed=*/false)
            : absl::InvalidArgumentError("memory with gaps");
    // NCCL can't have some ranks with registered buffers and others without.
    const absl::Status agreed = AgreeOnStatus(*host_, status);
    const auto deregister = [this](void* registered) { handle_.Deregister(registered); };
    if (agreed.ok()) return handle != nullptr ? std::shared_ptr<void>(handle, deregister) : nullptr;
    deregister(handle);
    stream_.Note(absl::StrCat("buffers are not registered with NCCL: ", agreed.message()));
    return nullptr;
  }

  absl::Status Send(const Tensor& data, int destination) override {
    ISTHMUS_ASSIGN_OR_RETURN(const ncclDataType_t type, TypeOf(data));
    return Complete(Start("send", {data}, [&](ncclComm_t communicator) {
      return ncclSend(data.data, Count(data), type, destination, communicator, queue_.stream());
    }));
  }
  absl::Status Receive(const Tensor& data, int source) override {
    ISTHMUS_ASSIGN_OR_RETURN(const ncclDataType_t type, TypeOf(data));
    return Complete(Start("receive", {data}, [&](ncclComm_t communicator) {
      return ncclRecv(data.data, Count(data), type, source, communicator, queue_.stream());
    }));
  }
  absl::Status Barrier() override {
    ISTHMUS_RETURN_IF_ERROR(stream_.Synchronize());
    return host_->Barrier();
  }

  void set_deadline(absl::Duration deadline) override {
    host_->set_deadline(deadline);
    handle_.set_deadline(deadline);
  }

  absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, int key, std::string name) override {
    ISTHMUS_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> part, host_->Split(color, key, std::move(name)));
    return MakeNcclCommunicator(std::move(part), stream_, handle_.Deadline());
  }
  Record record() const override { return record_; }
  void Abort(int exit_status) override { host_->Abort(exit_status); }

 private:
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
    ISTHMUS_RETURN_IF_ERROR(handle_.Health());
    ISTHMUS_ASSIGN_OR_RETURN(const bool capturing, queue_.Capturing());
    ISTHMUS_RETURN_IF_ERROR(queue_.FollowComputing());
    ISTHMUS_RETURN_IF_ERROR(handle_.Settled(call, operation));
    if (capturing) {
      ISTHMUS_ASSIGN_OR_RETURN(const int64_t sequence, queue_.MarkCapturedEnd());
      return Ticket{sequence};
    }
    const std::lock_guard lock(handle_.mutex());
    RecordStart(operation, tensors.size() > 0 ? std::max(tensors.begin()->bytes(), (tensors.end() - 1)->bytes()) : 0);
    const Ticket ticket{sequence_++};
    ISTHMUS_RETURN_IF_ERROR(queue_.MarkEnd(ticket.sequence));
    return ticket;
  }

  absl::Status Complete(const absl::StatusOr<Ticket>& ticket) {
    ISTHMUS_RETURN_IF_ERROR(ticket.status());
    ISTHMUS_RETURN_IF_ERROR(Wait(*ticket));
    ISTHMUS_RETURN_IF_ERROR(stream_.Synchronize());
    return handle_.Health();
  }

  // Captured operations are recorded as one, each time that they run. The watchdog notices ends, 20 ms late.
  void RecordStart(const char* operation, int64_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(handle_.mutex()) {
    operations_[static_cast<size_t>(sequence_ % NcclQueue::kEvents)] = operation;
    if (record_.ring != nullptr) record_.ring->Start(record_.group, sequence_, operation, bytes);
  }

  const char* NameOf(int64_t sequence) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(handle_.mutex()) {
    return sequence < sequence_ - NcclQueue::kEvents ? "an operation"
                                                     : operations_[static_cast<size_t>(sequence % NcclQueue::kEvents)];
  }

  // Returns without the lock once the communicator ends. A call that blocks its thread keeps the lock, for example when
  // the device's queue is full behind a collective that hangs. A communicator in use can't be aborted. The ring
  // therefore tells the watch over the ranks (launch/watch/rank_watch.h) of the wait, and that ends the process.
  std::unique_lock<std::timed_mutex> LockFromWatchdog(int64_t finished, absl::Duration deadline) {
    std::unique_lock lock(handle_.mutex(), std::defer_lock);
    WaitClock blocked(MonotonicNow());
    bool told = false;
    while (!stop_ && !lock.try_lock_for(std::chrono::milliseconds(20))) {
      if (told || blocked.Elapsed(MonotonicNow()) < deadline || record_.ring == nullptr) continue;
      record_.ring->Wait(record_.group, finished);
      told = true;
    }
    return lock;
  }

  // Looks after the operations on the device. The host waits for the GPU, which waits for ranks that may be gone; an
  // abort ends that wait.
  void Watch() {
    if (cudaSetDevice(stream_.cuda().ordinal) != cudaSuccess) return;
    int64_t finished = 0;
    absl::Duration deadline = handle_.Deadline();
    NcclProgress progress(MonotonicNow());
    while (!stop_) {
      absl::SleepFor(absl::Milliseconds(20));
      const std::unique_lock lock = LockFromWatchdog(finished, deadline);
      if (!lock.owns_lock() || handle_.failed()) return;
      deadline = handle_.deadline_under_lock();
      const int64_t started = sequence_, before = finished;
      finished = EndedOperations(started, finished, NcclQueue::kEvents,
                                 [this](int64_t sequence) { return queue_.HasEnded(sequence); });
      if (finished > before && record_.ring != nullptr) record_.ring->EndBefore(record_.group, finished);
      const bool late = progress.IsLate(started, finished, deadline, MonotonicNow());
      if (finished == started) continue;
      absl::Status fault = handle_.AsyncError();
      if (fault.ok() && late) fault = handle_.Late(NameOf(finished), finished);
      if (fault.ok()) continue;
      if (record_.ring != nullptr) record_.ring->Wait(record_.group, finished);
      handle_.Fail(std::move(fault));
      return;
    }
  }

  const std::unique_ptr<Communicator> host_;
  Record record_;
  const Stream stream_;
  // The watchdog ends first, then the handle, then the queue.
  NcclQueue queue_;
  NcclHandle handle_;
  std::atomic<bool> stop_{false};
  std::thread watchdog_;
  int64_t sequence_ ABSL_GUARDED_BY(handle_.mutex()) = 0;  // of the next operation
  // Names by sequence modulo NcclQueue::kEvents.
  std::array<const char*, NcclQueue::kEvents> operations_ ABSL_GUARDED_BY(handle_.mutex()){};
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
