// Tells the thread sanitizer of an order between threads that it can't see. GCC's OpenMP library starts and joins its
// threads with system calls of its own. Without the sanitizer both functions do nothing.
#ifndef ISTHMUS_RUNTIME_THREAD_ORDER_H_
#define ISTHMUS_RUNTIME_THREAD_ORDER_H_

#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#endif

namespace isthmus {

// Whoever calls HappensAfter with the same address later sees everything that this thread did.
inline void HappensBefore([[maybe_unused]] void* address) {
#ifdef __SANITIZE_THREAD__
  __tsan_release(address);
#endif
}
inline void HappensAfter([[maybe_unused]] void* address) {
#ifdef __SANITIZE_THREAD__
  __tsan_acquire(address);
#endif
}

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_THREAD_ORDER_H_
