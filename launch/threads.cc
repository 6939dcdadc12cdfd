#include "launch/threads.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <latch>
#include <thread>
#include <vector>

#include "runtime/parallel_for.h"

namespace isthmus {

namespace {

int WantedThreads(int local_size) {
  int threads = 0;
  const char* text = std::getenv("OMP_NUM_THREADS");
  if (text != nullptr && absl::SimpleAtoi(text, &threads) && threads > 0) return threads;
  const int online = std::max(static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)), 1);
  cpu_set_t allowed;
  const int mine = sched_getaffinity(0, sizeof(allowed), &allowed) == 0 ? CPU_COUNT(&allowed) : online;
  if (mine * local_size <= online) return std::max(mine, 1);
  return std::max(std::min(mine, online) / local_size, 1);
}

}  // namespace

int ThreadsPerRank(int local_size) { return std::min(WantedThreads(local_size), ThreadLimit()); }

absl::Status StartThreads(int threads) {
  absl::Status status;
  std::vector<std::thread> started;
  std::latch all_started(1);
  try {
    for (int i = 1; i < threads; ++i) started.emplace_back([&] { all_started.wait(); });
  } catch (const std::exception& error) {
    status = absl::ResourceExhaustedError(
        absl::StrCat("only ", started.size() + 1, " of ", threads, " threads can be started: ", error.what(),
                     "; allow more (ulimit -u, ulimit -v, or the container's limit of processes), or set "
                     "OMP_NUM_THREADS to fewer"));
  }
  all_started.count_down();
  for (std::thread& thread : started) thread.join();
  if (!status.ok()) return status;
  SetThreads(threads);
  ParallelFor(threads, 1, [](int64_t, int64_t, int) {});  // makes OpenMP start its threads, which it keeps
  return absl::OkStatus();
}

}  // namespace isthmus
