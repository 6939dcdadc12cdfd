// Pairs of events on a stream. event_timer.cc implements them; in a build without CUDA, absent.cc does.
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
  // Adds the measured times once the stream has finished. Errors: those of the events' calls, including earlier ones.
  absl::Status Collect();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace isthmus::cuda

#endif  // ISTHMUS_RUNTIME_CUDA_EVENT_TIMER_H_
