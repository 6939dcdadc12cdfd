// A mark on a stream that the host can wait for. Implemented by event.cc, or, in a build without CUDA, by absent.cc.
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

  // Behind what the stream has been given so far.
  absl::Status Record(const Context& context);
  // Until the stream has passed it. Without effect before the first Record.
  absl::Status Wait() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace isthmus::cuda

#endif  // ISTHMUS_RUNTIME_CUDA_EVENT_H_
