// Streams that have finished whatever was put into them, or that are captured. Captured work is noted and runs whenever
// the graph is launched. Copies to the host arrive when somebody waits for them, not before.
#include "tests/cuda_on_cpu/stream.h"

#include <cuda_runtime.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <mutex>
#include <utility>
#include <vector>

struct cudaFakeGraph {
  std::vector<std::function<cudaError_t()>> work;
};

struct cudaFakeGraphExec {
  std::vector<std::function<cudaError_t()>> work;
};

struct cudaFakeStream {
  cudaFakeGraph* capture = nullptr;
  bool spoilt = false;
};

struct cudaFakeEvent {
  std::chrono::steady_clock::time_point time;
  cudaStream_t stream = nullptr;
  uint64_t copies = 0;    // that were given to any stream before it
  bool captured = false;  // last recorded as a part of a graph: it has no time
};

namespace isthmus::cuda_on_cpu {
namespace {

// The stream that this thread captures.
thread_local cudaStream_t captured = nullptr;

bool Capturing(cudaStream_t stream) { return stream != nullptr && stream->capture != nullptr; }

struct HeldCopy {
  cudaStream_t stream;
  uint64_t number;  // from 1, in the order in which they were given
  void* to;
  std::vector<char> bytes;
};

struct HeldCopies {
  std::mutex mutex;
  uint64_t given = 0;
  std::vector<HeldCopy> waiting;
};

HeldCopies& Held() {
  static auto* const held = new HeldCopies;
  return *held;
}

// Lets the stream's copies up to that number arrive.
void Deliver(cudaStream_t stream, uint64_t last) {
  HeldCopies& held = Held();
  const std::lock_guard<std::mutex> lock(held.mutex);
  std::erase_if(held.waiting, [&](const HeldCopy& copy) {
    if (copy.stream != stream || copy.number > last) return false;
    std::memcpy(copy.to, copy.bytes.data(), copy.bytes.size());
    return true;
  });
}

uint64_t Given() {
  HeldCopies& held = Held();
  const std::lock_guard<std::mutex> lock(held.mutex);
  return held.given;
}

// The stream has been waited for.
cudaError_t Passed(cudaStream_t stream) {
  const cudaError_t error = ForbiddenInCapture();
  if (error == cudaSuccess) Deliver(stream, Given());
  return error;
}

// The event has been waited for.
cudaError_t Passed(cudaEvent_t event) {
  const cudaError_t error = event->captured ? cudaErrorCapturedEvent : ForbiddenInCapture();
  if (error == cudaSuccess) Deliver(event->stream, event->copies);
  return error;
}

}  // namespace

void HoldBack(cudaStream_t stream, void* to, const void* from, size_t bytes) {
  HeldCopies& held = Held();
  const std::lock_guard<std::mutex> lock(held.mutex);
  const auto* first = static_cast<const char*>(from);
  held.waiting.push_back({stream, ++held.given, to, std::vector<char>(first, first + bytes)});
}

cudaError_t Give(cudaStream_t stream, std::function<cudaError_t()> work) {
  if (!Capturing(stream)) return work();
  if (stream->spoilt) return cudaErrorStreamCaptureInvalidated;
  stream->capture->work.push_back(std::move(work));
  return cudaSuccess;
}

cudaError_t ForbiddenInCapture() {
  if (captured == nullptr) return cudaSuccess;
  captured->spoilt = true;
  return cudaErrorStreamCaptureUnsupported;
}

}  // namespace isthmus::cuda_on_cpu

using isthmus::cuda_on_cpu::Capturing;
using isthmus::cuda_on_cpu::Give;
using isthmus::cuda_on_cpu::Given;
using isthmus::cuda_on_cpu::Passed;

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new cudaFakeStream;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  isthmus::cuda_on_cpu::Deliver(stream, Given());
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) { return Passed(stream); }
cudaError_t cudaStreamQuery(cudaStream_t stream) { return Passed(stream); }
// Whoever waits for this stream afterwards has waited for the event, too, so its copies arrive at once.
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t event, unsigned) {
  isthmus::cuda_on_cpu::Deliver(event->stream, event->copies);
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new cudaFakeEvent;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return cudaEventRecordWithFlags(event, stream, cudaEventRecordDefault);
}
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) {
  if (flags == cudaEventRecordExternal && !Capturing(stream)) return cudaErrorInvalidValue;
  event->captured = Capturing(stream) && flags != cudaEventRecordExternal;
  if (event->captured) return cudaSuccess;
  return Give(stream, [event, stream] {
    event->time = std::chrono::steady_clock::now();
    event->stream = stream;
    event->copies = Given();
    return cudaSuccess;
  });
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  if (begin->captured || end->captured) return cudaErrorCapturedEvent;
  *milliseconds = std::chrono::duration<float, std::milli>(end->time - begin->time).count();
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) { return Passed(event); }
cudaError_t cudaEventSynchronize(cudaEvent_t event) { return Passed(event); }

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (stream == nullptr || Capturing(stream) || isthmus::cuda_on_cpu::captured != nullptr) {
    return cudaErrorStreamCaptureUnsupported;
  }
  stream->capture = new cudaFakeGraph;
  stream->spoilt = false;
  isthmus::cuda_on_cpu::captured = stream;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  isthmus::cuda_on_cpu::captured = nullptr;
  *graph = std::exchange(stream->capture, nullptr);
  // Lets a test see what follows a capture that fails.
  if (!stream->spoilt && std::getenv("ISTHMUS_EMULATED_CAPTURE_FAILS") == nullptr) return cudaSuccess;
  delete std::exchange(*graph, nullptr);
  return cudaErrorStreamCaptureInvalidated;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  *status = Capturing(stream) ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  *executable = new cudaFakeGraphExec{graph->work};
  return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t) {
  for (const auto& work : executable->work) {
    if (const cudaError_t error = work(); error != cudaSuccess) return error;
  }
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
