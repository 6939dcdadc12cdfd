// Simulates a machine that can start no more threads.
#ifndef ISTHMUS_TESTS_SUPPORT_NO_THREADS_H_
#define ISTHMUS_TESTS_SUPPORT_NO_THREADS_H_

#include <pthread.h>

#include <cstddef>

namespace isthmus::testing {

// While it lives, no std::thread can be started: each would need a stack larger than all addresses.
class NoThreads {
 public:
  NoThreads() {
    pthread_getattr_default_np(&before_);
    pthread_attr_t none = before_;
    pthread_attr_setstacksize(&none, size_t{1} << 50);
    pthread_setattr_default_np(&none);
  }
  ~NoThreads() { pthread_setattr_default_np(&before_); }
  NoThreads(const NoThreads&) = delete;
  NoThreads& operator=(const NoThreads&) = delete;

 private:
  pthread_attr_t before_{};
};

}  // namespace isthmus::testing

#endif  // ISTHMUS_TESTS_SUPPORT_NO_THREADS_H_
