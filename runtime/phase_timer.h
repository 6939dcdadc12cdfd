// Measures how long the phases of a step take on a stream's device.
#ifndef ISTHMUS_RUNTIME_PHASE_TIMER_H_
#define ISTHMUS_RUNTIME_PHASE_TIMER_H_

#include <absl/status/status.h>

#include <chrono>
#include <memory>

#include "runtime/step_phase.h"
#include "runtime/stream.h"
#include "runtime/whereabouts.h"

namespace isthmus {

namespace cuda {
class EventTimer;  // runtime/cuda/event_timer.h
}

// On the CPU a phase lasts from the making of its scope to its end. On a GPU the work is only started in that time.
// Events on the stream say how long it took, once Collect has been called.
class PhaseTimer {
 public:
  // `whereabouts` is told the present phase, if it is given; it must outlive the timer.
  explicit PhaseTimer(const Stream& stream, Whereabouts* whereabouts = nullptr);
  ~PhaseTimer();
  PhaseTimer(const PhaseTimer&) = delete;
  PhaseTimer& operator=(const PhaseTimer&) = delete;

  // Scopes of one timer do not nest. `name` appears in the profiler's time line (NVTX).
  class Scope {
   public:
    Scope(PhaseTimer& timer, const char* name, double& seconds);
    // Does the same for a step's phase, which a recorder of the stream learns.
    Scope(PhaseTimer& timer, StepPhase phase, StepSeconds& seconds);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    PhaseTimer& timer_;
    double& seconds_;
    const char* before_ = nullptr;  // the phase around this one
    std::chrono::steady_clock::time_point start_;
  };

  // Forgets phases that were not collected.
  void Reset();

  // Phases of work that is captured (runtime/captured_work.h) are measured each time the work runs. After a capture
  // this returns the number that names its phases.
  int TakeCaptured();
  // Call this after each start of the captured work. One event holds one time: if the work is started several times
  // between two calls of Collect, the last run's times stand for all.
  void Replayed(int captured);

  // Waits for the stream and adds the phases since the last call to their seconds, which must still live.
  absl::Status Collect();

 private:
  Stream stream_;
  Whereabouts* whereabouts_;
  std::unique_ptr<cuda::EventTimer> events_;  // of a GPU
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_PHASE_TIMER_H_
