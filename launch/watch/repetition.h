// A repetition is work that a thread does again and again until another thread asks it to stop.
#ifndef ISTHMUS_LAUNCH_WATCH_REPETITION_H_
#define ISTHMUS_LAUNCH_WATCH_REPETITION_H_

#include <absl/functional/function_ref.h>
#include <absl/time/time.h>

#include <condition_variable>
#include <mutex>

namespace isthmus {

// The thread can outlive who asks: a file system that hangs can keep it. Both then share the object.
class Repetition {
 public:
  // Calls each() `pause` from now, and again `pause` after it has returned, until another thread asks to stop. It is
  // called once.
  void Run(absl::Duration pause, absl::FunctionRef<void()> each);

  // Returns whether Run has ended, `patience` from now at most.
  bool AskToStop(absl::Duration patience);

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false, done_ = false;
};

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_WATCH_REPETITION_H_
