// Threads of one rank. They are OpenMP's, because oneDNN brings the same pool: a second one would compete with it for
// the cores.
#ifndef ISTHMUS_RUNTIME_PARALLEL_FOR_H_
#define ISTHMUS_RUNTIME_PARALLEL_FOR_H_

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <exception>

#include "runtime/thread_order.h"

namespace isthmus {

// The largest team that OpenMP grants: OMP_THREAD_LIMIT, or 1 if OMP_MAX_ACTIVE_LEVELS is 0.
inline int ThreadLimit() { return omp_get_max_active_levels() < 1 ? 1 : omp_get_thread_limit(); }

// The number of threads that ParallelFor uses at most: OMP_NUM_THREADS, or the number given to SetThreads, within
// ThreadLimit(). After a call OpenMP gives every team of this thread its full size. Libraries may cut their work by the
// size that they asked for, so OMP_DYNAMIC has no effect.
inline int MaxThreads() {
  if (omp_get_dynamic() != 0) omp_set_dynamic(0);
  if (const int limit = ThreadLimit(); omp_get_max_threads() > limit) omp_set_num_threads(limit);
  return omp_get_max_threads();
}
inline void SetThreads(int threads) { omp_set_num_threads(threads); }

// While it lives, libraries that bring their own threads use one for calls from this thread. A product within the body
// of a ParallelFor needs it. If there is but one range, the body runs outside a parallel region, where the product
// would be cut over all threads. The cut may decide its bits.
class OneThread {
 public:
  OneThread() : threads_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(threads_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int threads_;
};

// Calls body(begin, end, thread) on disjoint ranges that cover [0, count), whatever team OpenMP gives. Each range but
// the last has a multiple of `grain` elements. `thread` < MaxThreads(). Ranges depend on the number of threads. Bits
// must not, so a body that reduces does it per fixed block, and the blocks are combined in order. If bodies throw, for
// example because memory runs out, one of the exceptions comes out once all threads are done.
template <typename Body>
[[gnu::no_sanitize("thread")]] void ParallelFor(int64_t count, int64_t grain, Body&& body) {
  if (count <= 0) return;
  grain = std::max<int64_t>(grain, 1);
  const int64_t blocks = (count + grain - 1) / grain;
  const int threads = static_cast<int>(std::min<int64_t>(MaxThreads(), blocks));
  if (threads <= 1 || omp_in_parallel()) {
    body(int64_t{0}, count, 0);
    return;
  }
  char start = 0, end_of_all = 0;
  std::exception_ptr thrown;
  HappensBefore(&start);
#pragma omp parallel num_threads(threads)
  {
    HappensAfter(&start);
    const int thread = omp_get_thread_num(), team = omp_get_num_threads();
    const int64_t begin = blocks * thread / team * grain;
    const int64_t end = std::min(count, blocks * (thread + 1) / team * grain);
    try {
      if (begin < end) body(begin, end, thread);
    } catch (...) {  // an exception must not leave a parallel region
#pragma omp critical(isthmus_parallel_for)
      thrown = std::current_exception();
    }
    HappensBefore(&end_of_all);
  }
  HappensAfter(&end_of_all);
  if (thrown != nullptr) std::rethrow_exception(thrown);
}

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_PARALLEL_FOR_H_
