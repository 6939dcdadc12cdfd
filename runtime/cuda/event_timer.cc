#include "runtime/cuda/event_timer.h"

#include <cuda_runtime.h>
#include <nvtx3/nvToolsExt.h>

#include <vector>

#include "runtime/cuda/context.h"
#include "runtime/cuda/error.h"
#include "runtime/status.h"

namespace isthmus::cuda {

struct EventTimer::State {
  struct Phase {
    cudaEvent_t begin = nullptr, end = nullptr;
    double* seconds = nullptr;
  };

  const Context& context;
  std::vector<Phase> phases;  // their events are used again after Collect
  size_t used = 0;
  absl::Status status;

  void Record(cudaEvent_t& event) {
    if (event == nullptr) status.Update(Check(cudaEventCreateWithFlags(&event, cudaEventDefault), "cudaEventCreate"));
    if (status.ok()) status = Check(cudaEventRecord(event, context.stream), "cudaEventRecord");
  }
};

EventTimer::EventTimer(const Context& context) : state_(new State{context, {}, 0, {}}) {}

EventTimer::~EventTimer() {
  for (const State::Phase& phase : state_->phases) {
    if (phase.begin != nullptr) cudaEventDestroy(phase.begin);
    if (phase.end != nullptr) cudaEventDestroy(phase.end);
  }
}

void EventTimer::Begin(const char* name, double& seconds) {
  nvtxRangePushA(name);
  if (state_->used == state_->phases.size()) state_->phases.emplace_back();
  State::Phase& phase = state_->phases[state_->used++];
  phase.seconds = &seconds;
  state_->Record(phase.begin);
}

void EventTimer::End() {
  state_->Record(state_->phases[state_->used - 1].end);
  nvtxRangePop();
}

void EventTimer::Reset() { state_->used = 0; }

absl::Status EventTimer::Collect() {
  ISTHMUS_RETURN_IF_ERROR(state_->status);
  for (size_t i = 0; i < state_->used; ++i) {
    const State::Phase& phase = state_->phases[i];
    float milliseconds = 0;
    ISTHMUS_RETURN_IF_ERROR(Check(cudaEventElapsedTime(&milliseconds, phase.begin, phase.end), "cudaEventElapsedTime"));
    *phase.seconds += static_cast<double>(milliseconds) / 1e3;
  }
  state_->used = 0;
  return absl::OkStatus();
}

}  // namespace isthmus::cuda
