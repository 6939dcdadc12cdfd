// The stream on which NCCL's collectives run, and the events by which it and the computing stream wait for each other.
//
// While the computing stream is captured, the same events order the collectives within the graph. They have no time
// then, and querying one would spoil the capture. Captured operations therefore have events of their own, which nobody
// may query.
#ifndef ISTHMUS_PARALLEL_NCCL_QUEUE_H_
#define ISTHMUS_PARALLEL_NCCL_QUEUE_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <cuda_runtime.h>

#include <array>
#include <cstdint>

#include "runtime/stream.h"

namespace isthmus {

// Operations have numbers, which their tickets carry. They end in their order.
class NcclQueue {
 public:
  // Number of operations whose ends are told apart; older ones share the event of a later one.
  static constexpr int64_t kEvents = 64;

  explicit NcclQueue(const Stream& computing) : computing_(computing) {}
  ~NcclQueue();
  NcclQueue(const NcclQueue&) = delete;
  NcclQueue& operator=(const NcclQueue&) = delete;

  // Call this first. Errors, here and below: Internal if CUDA refuses.
  absl::Status Open();
  // The stream on which NCCL starts operations. It is null before Open.
  cudaStream_t stream() const { return stream_; }

  // Says whether the computing stream is captured.
  absl::StatusOr<bool> Capturing() const;
  // Makes all that the queue is given from now on wait for all that the computing stream has been given so far.
  absl::Status FollowComputing();
  // Marks the end of an operation, which is all that the queue has been given so far.
  absl::Status MarkEnd(int64_t sequence);
  // Does the same for a captured operation. Returns its number, which no uncaptured operation has.
  absl::StatusOr<int64_t> MarkCapturedEnd();
  // Does the same for a captured graph that the computing stream has just been given.
  absl::Status MarkReplayedEnd(int64_t sequence);
  // Lets the computing stream wait for the operation's end.
  absl::Status AwaitEnd(int64_t sequence);
  // Says whether one of the latest kEvents operations that were not captured has ended. Its end must have been marked
  // before. Any thread that has set the device may ask.
  bool HasEnded(int64_t sequence) const;

 private:
  // Tickets of captured operations count from here on.
  static constexpr int64_t kFirstCaptured = int64_t{1} << 62;

  cudaEvent_t EventOf(int64_t sequence) const;

  const Stream computing_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t ready_ = nullptr;  // marks the work the computing stream had when an operation started
  std::array<cudaEvent_t, kEvents> done_{}, captured_done_{};
  int64_t captured_sequence_ = kFirstCaptured;  // of the next captured operation
};

}  // namespace isthmus

#endif  // ISTHMUS_PARALLEL_NCCL_QUEUE_H_
