// A mark on a stream that the host can wait for. event.cc implements it; in a build without CUDA, absent.cc does.
#ifndef ISTHMUS_RUNTIME_CUDA_EVENT_H_
#define ISTHMUS_RUNTIME_CUDA_EVENT_H_

#include <absl/status/status.h>

#include <memory>

namespace isthmus::cuda {

struct Context;

class Event {
 public:
  Event();
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  // Puts the mark behind all that the stream has been given so far.
  absl::Status Record(const Context& context);
  // Waits until the stream has passed the mark. It has no effect before the first Record.
  absl::Status Wait() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace isthmus::cuda

#endif  // ISTHMUS_RUNTIME_CUDA_EVENT_H_
