#include "launch/watch/repetition.h"

namespace isthmus {

void Repetition::Run(absl::Duration pause, absl::FunctionRef<void()> each) {
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, absl::ToChronoNanoseconds(pause), [&] { return stopping_; })) {
    lock.unlock();
    each();
    lock.lock();
  }
  done_ = true;
  changed_.notify_all();
}

bool Repetition::AskToStop(absl::Duration patience) {
  std::unique_lock lock(mutex_);
  stopping_ = true;
  changed_.notify_all();
  return changed_.wait_for(lock, absl::ToChronoNanoseconds(patience), [&] { return done_; });
}

}  // namespace isthmus
