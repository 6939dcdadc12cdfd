#include "parallel/nccl/queue.h"

#include "runtime/cuda/context.h"
#include "runtime/cuda/error.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

absl::Status NewOrderEvent(cudaEvent_t& event) {
  return cuda::Check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
}

}  // namespace

NcclQueue::~NcclQueue() {
  for (cudaEvent_t event : done_) {
    if (event != nullptr) cudaEventDestroy(event);
  }
  for (cudaEvent_t event : captured_done_) {
    if (event != nullptr) cudaEventDestroy(event);
  }
  if (ready_ != nullptr) cudaEventDestroy(ready_);
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

absl::Status NcclQueue::Open() {
  ISTHMUS_RETURN_IF_ERROR(
      cuda::Check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags"));
  ISTHMUS_RETURN_IF_ERROR(NewOrderEvent(ready_));
  for (cudaEvent_t& event : done_) ISTHMUS_RETURN_IF_ERROR(NewOrderEvent(event));
  for (cudaEvent_t& event : captured_done_) ISTHMUS_RETURN_IF_ERROR(NewOrderEvent(event));
  return absl::OkStatus();
}

absl::StatusOr<bool> NcclQueue::Capturing() const {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  ISTHMUS_RETURN_IF_ERROR(
      cuda::Check(cudaStreamIsCapturing(computing_.cuda().stream, &status), "cudaStreamIsCapturing"));
  return status != cudaStreamCaptureStatusNone;
}

absl::Status NcclQueue::FollowComputing() {
  ISTHMUS_RETURN_IF_ERROR(cuda::Check(cudaEventRecord(ready_, computing_.cuda().stream), "cudaEventRecord"));
  return cuda::Check(cudaStreamWaitEvent(stream_, ready_, 0), "cudaStreamWaitEvent");
}

absl::Status NcclQueue::MarkEnd(int64_t sequence) {
  return cuda::Check(cudaEventRecord(EventOf(sequence), stream_), "cudaEventRecord");
}

absl::StatusOr<int64_t> NcclQueue::MarkCapturedEnd() {
  const int64_t sequence = captured_sequence_++;
  ISTHMUS_RETURN_IF_ERROR(MarkEnd(sequence));
  return sequence;
}

absl::Status NcclQueue::MarkReplayedEnd(int64_t sequence) {
  return cuda::Check(cudaEventRecord(EventOf(sequence), computing_.cuda().stream), "cudaEventRecord");
}

absl::Status NcclQueue::AwaitEnd(int64_t sequence) {
  // Operations end in order, so the event of a later one serves for one whose event has been used again.
  return cuda::Check(cudaStreamWaitEvent(computing_.cuda().stream, EventOf(sequence), 0), "cudaStreamWaitEvent");
}

bool NcclQueue::HasEnded(int64_t sequence) const { return cudaEventQuery(EventOf(sequence)) == cudaSuccess; }

cudaEvent_t NcclQueue::EventOf(int64_t sequence) const {
  const auto index = static_cast<size_t>(sequence % kEvents);
  return sequence >= kFirstCaptured ? captured_done_[index] : done_[index];
}

}  // namespace isthmus
