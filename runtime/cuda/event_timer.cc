#include "runtime/cuda/event_timer.h"

#include <cuda_runtime.h>

#include <deque>
#include <vector>

#include "runtime/cuda/context.h"
#include "runtime/cuda/error.h"
#include "runtime/cuda/trace.h"
#include "runtime/status.h"

namespace isthmus::cuda {
namespace {

struct Phase {
  cudaEvent_t begin = nullptr, end = nullptr;
  double* seconds = nullptr;
  bool captured = false;

  Phase() = default;
  Phase(const Phase&) = delete;
  Phase& operator=(const Phase&) = delete;
  ~Phase() {
    if (begin != nullptr) cudaEventDestroy(begin);
    if (end != nullptr) cudaEventDestroy(end);
  }

  // Adds the measured times, `runs` times.
  absl::Status Collect(int64_t runs) const {
    float milliseconds = 0;
    ISTHMUS_RETURN_IF_ERROR(Check(cudaEventElapsedTime(&milliseconds, begin, end), "cudaEventElapsedTime"));
    *seconds += static_cast<double>(runs) * static_cast<double>(milliseconds) / 1e3;
    return absl::OkStatus();
  }
};

// The phases of one capture. They are in a deque because phases must not move.
struct Captured {
  std::deque<Phase> phases;
  int64_t runs = 0;  // since the last Collect
};

}  // namespace

struct EventTimer::State {
  const Context& context;
  std::deque<Phase> phases;  // their events are used again after Collect
  size_t used = 0;
  std::deque<Captured> captures;  // the last one may still be growing
  size_t taken = 0;               // of the captures
  Phase* open = nullptr;
  absl::Status status;

  void Record(cudaEvent_t& event, bool captured) {
    absl::Status recorded;
    if (event == nullptr) recorded = Check(cudaEventCreateWithFlags(&event, cudaEventDefault), "cudaEventCreate");
    // CUDA must tell events that a graph records from those that order the work in it.
    const unsigned flags = captured ? cudaEventRecordExternal : cudaEventRecordDefault;
    recorded.Update(Check(cudaEventRecordWithFlags(event, context.stream, flags), "cudaEventRecordWithFlags"));
    // An error in a capture ends the capture, which reports it.
    if (!captured) status.Update(recorded);
  }

  Phase& NextPhase() {
    cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    status.Update(Check(cudaStreamIsCapturing(context.stream, &capture), "cudaStreamIsCapturing"));
    if (capture != cudaStreamCaptureStatusNone) {
      if (captures.size() == taken) captures.emplace_back();
      Phase& phase = captures.back().phases.emplace_back();
      phase.captured = true;
      return phase;
    }
    if (used == phases.size()) phases.emplace_back();
    return phases[used++];
  }
};

EventTimer::EventTimer(const Context& context) : state_(new State{context, {}, 0, {}, 0, nullptr, {}}) {}

EventTimer::~EventTimer() = default;

void EventTimer::Begin(const char* name, double& seconds) {
  PushRange(name);
  state_->open = &state_->NextPhase();
  state_->open->seconds = &seconds;
  state_->Record(state_->open->begin, state_->open->captured);
}

void EventTimer::End() {
  state_->Record(state_->open->end, state_->open->captured);
  PopRange();
}

void EventTimer::Reset() {
  state_->used = 0;
  for (Captured& captured : state_->captures) captured.runs = 0;
}

int EventTimer::TakeCaptured() {
  if (state_->captures.size() == state_->taken) state_->captures.emplace_back();
  return static_cast<int>(state_->taken++);
}

void EventTimer::Replayed(int captured) { ++state_->captures[static_cast<size_t>(captured)].runs; }

absl::Status EventTimer::Collect() {
  ISTHMUS_RETURN_IF_ERROR(state_->status);
  for (size_t i = 0; i < state_->used; ++i) ISTHMUS_RETURN_IF_ERROR(state_->phases[i].Collect(1));
  for (const Captured& captured : state_->captures) {
    if (captured.runs == 0) continue;
    for (const Phase& phase : captured.phases) ISTHMUS_RETURN_IF_ERROR(phase.Collect(captured.runs));
  }
  Reset();
  return absl::OkStatus();
}

}  // namespace isthmus::cuda
