#include "runtime/cuda/event.h"

#include <cuda_runtime.h>

#include "runtime/cuda/context.h"
#include "runtime/cuda/error.h"
#include "runtime/status.h"

namespace isthmus::cuda {

struct Event::State {
  cudaEvent_t event = nullptr;
};

Event::Event() : state_(new State) {}

Event::~Event() {
  if (state_->event != nullptr) cudaEventDestroy(state_->event);
}

absl::Status Event::Record(const Context& context) {
  if (state_->event == nullptr) {
    ISTHMUS_RETURN_IF_ERROR(
        Check(cudaEventCreateWithFlags(&state_->event, cudaEventDisableTiming), "cudaEventCreateWithFlags"));
  }
  return Check(cudaEventRecord(state_->event, context.stream), "cudaEventRecord");
}

absl::Status Event::Wait() const {
  if (state_->event == nullptr) return absl::OkStatus();
  return Check(cudaEventSynchronize(state_->event), "cudaEventSynchronize");
}

}  // namespace isthmus::cuda
