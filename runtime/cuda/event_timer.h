// Pairs of events on a stream. Implemented by event_timer.cc, or, in a build without CUDA, by absent.cc.
#ifndef ISTHMUS_RUNTIME_CUDA_EVENT_TIMER_H_
#define ISTHMUS_RUNTIME_CUDA_EVENT_TIMER_H_

#include <absl/status/status.h>

#include <memory>

namespace isthmus::cuda {

struct Context;

class EventTimer {
 public:
  explicit EventTimer(const Context& context);
  ~EventTimer();
  EventTimer(const EventTimer&) = delete;
  EventTimer& operator=(const EventTimer&) = delete;

  void Begin(const char* name, double& seconds);
  void End();
  void Reset();
  int TakeCaptured();
  void Replayed(int captured);
  // Once the stream has finished: adds what was measured. Errors: those of the events' calls, also earlier ones.
  absl::Status Collect();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace isthmus::cuda

#endif  // ISTHMUS_RUNTIME_CUDA_EVENT_TIMER_H_
