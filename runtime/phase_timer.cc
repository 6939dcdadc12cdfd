#include "runtime/phase_timer.h"

#include "runtime/cuda/event_timer.h"
#include "runtime/status.h"
#include "runtime/work_recorder.h"

namespace isthmus {

PhaseTimer::PhaseTimer(const Stream& stream, Whereabouts* whereabouts) : stream_(stream), whereabouts_(whereabouts) {
  if (stream.on_gpu()) events_ = std::make_unique<cuda::EventTimer>(stream.cuda());
}

PhaseTimer::~PhaseTimer() = default;

PhaseTimer::Scope::Scope(PhaseTimer& timer, const char* name, double& seconds)
    : timer_(timer), seconds_(seconds), start_(std::chrono::steady_clock::now()) {
  if (timer_.whereabouts_ != nullptr) {
    before_ = timer_.whereabouts_->place().phase;
    timer_.whereabouts_->Enter(name);
  }
  if (timer_.events_ != nullptr) timer_.events_->Begin(name, seconds);
}

PhaseTimer::Scope::Scope(PhaseTimer& timer, StepPhase phase, StepSeconds& seconds)
    : Scope(timer, PhaseName(phase), seconds[phase]) {
  if (WorkRecorder* recorder = timer.stream_.recorder()) recorder->Enter(phase);
}

PhaseTimer::Scope::~Scope() {
  if (timer_.whereabouts_ != nullptr) timer_.whereabouts_->Enter(before_);
  if (timer_.events_ != nullptr) {
    timer_.events_->End();
  } else {
    seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }
}

void PhaseTimer::Reset() {
  if (events_ != nullptr) events_->Reset();
}

int PhaseTimer::TakeCaptured() { return events_ != nullptr ? events_->TakeCaptured() : 0; }

void PhaseTimer::Replayed(int captured) {
  if (events_ != nullptr) events_->Replayed(captured);
}

absl::Status PhaseTimer::Collect() {
  if (events_ == nullptr) return absl::OkStatus();
  ISTHMUS_RETURN_IF_ERROR(stream_.Synchronize());
  return events_->Collect();
}

}  // namespace isthmus
