// Libraries find this function in the program instead of glibc's. It is part of the executable itself, because
// functions of its static libraries are hidden.
#include <dlfcn.h>
#include <pthread.h>

#include <algorithm>
#include <cstddef>

// CivetWeb, which answers HTTP requests for metrics, gives its threads stacks of 100 KiB. In every stack glibc first
// places the thread-local variables of all libraries, which are 92 KiB with cuBLASLt in the program. It then refuses to
// start the thread. No library gets a smaller stack than this.
extern "C" int pthread_attr_setstacksize(pthread_attr_t* attributes, size_t bytes) noexcept {
  constexpr size_t kLeast = size_t{512} * 1024;
  using SetStackSize = int (*)(pthread_attr_t*, size_t);
  static const auto set = reinterpret_cast<SetStackSize>(dlsym(RTLD_NEXT, "pthread_attr_setstacksize"));
  return set(attributes, std::max(bytes, kLeast));
}
