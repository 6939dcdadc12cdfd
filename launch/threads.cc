#include "launch/threads.h"

#include <absl/strings/numbers.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

namespace isthmus {

int ThreadsPerRank(int local_size) {
  int threads = 0;
  const char* text = std::getenv("OMP_NUM_THREADS");
  if (text != nullptr && absl::SimpleAtoi(text, &threads) && threads > 0) return threads;
  const int online = std::max(static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)), 1);
  cpu_set_t allowed;
  const int mine = sched_getaffinity(0, sizeof(allowed), &allowed) == 0 ? CPU_COUNT(&allowed) : online;
  if (mine * local_size <= online) return std::max(mine, 1);
  return std::max(std::min(mine, online) / local_size, 1);
}

}  // namespace isthmus
