#include "runtime/parallel_for.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <cstdint>
#include <mutex>
#include <new>
#include <set>
#include <vector>

namespace isthmus {
namespace {

struct Call {
  int64_t begin, end;
  int thread;
};

std::vector<Call> CallsOf(int64_t count, int64_t grain) {
  std::vector<Call> calls;
  std::mutex mutex;
  ParallelFor(count, grain, [&](int64_t begin, int64_t end, int thread) {
    const std::lock_guard lock(mutex);
    calls.push_back({begin, end, thread});
  });
  return calls;
}

// Runs a test at each number of threads and restores the one before.
class ParallelForThreads : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override { SetThreads(GetParam()); }
  void TearDown() override { SetThreads(threads_before_); }

 private:
  const int threads_before_ = MaxThreads();
};

TEST_P(ParallelForThreads, CoversEveryElementOnceInRangesOfWholeGrains) {
  for (const int64_t count : {0, 1, 2, 7, 64, 1000, 1001}) {
    for (const int64_t grain : {0, 1, 3, 16, 1000, 5000}) {
      std::vector<int> visits(static_cast<size_t>(count), 0);
      for (const Call& call : CallsOf(count, grain)) {
        ASSERT_LT(call.begin, call.end);
        ASSERT_GE(call.begin, 0);
        ASSERT_LE(call.end, count);
        EXPECT_TRUE(grain == 0 || call.end == count || (call.end - call.begin) % grain == 0);
        for (int64_t i = call.begin; i < call.end; ++i) ++visits[static_cast<size_t>(i)];
      }
      for (size_t i = 0; i < visits.size(); ++i) ASSERT_EQ(visits[i], 1) << "element " << i << " of " << count;
    }
  }
}

TEST_P(ParallelForThreads, GivesEachRangeAThreadOfItsOwn) {
  std::set<int> threads;
  const auto calls = CallsOf(1000, 1);
  for (const Call& call : calls) {
    EXPECT_GE(call.thread, 0);
    EXPECT_LT(call.thread, MaxThreads());
    threads.insert(call.thread);
  }
  EXPECT_EQ(threads.size(), calls.size());
  EXPECT_EQ(calls.size(), static_cast<size_t>(GetParam()));
}

// OpenMP gives fewer threads than asked for where a user sets OMP_DYNAMIC or OMP_MAX_ACTIVE_LEVELS.
TEST_P(ParallelForThreads, CoversEveryElementWhateverTeamOpenMpGives) {
  const auto visited = [] {
    int64_t elements = 0;
    for (const Call& call : CallsOf(1000, 1)) elements += call.end - call.begin;
    return elements;
  };
  const int levels = omp_get_max_active_levels();
  omp_set_max_active_levels(0);
  EXPECT_EQ(visited(), 1000);
  EXPECT_EQ(MaxThreads(), 1) << "libraries must not ask for more than they get";
  EXPECT_EQ(omp_get_max_threads(), 1);
  omp_set_max_active_levels(levels);
  SetThreads(64);
  omp_set_dynamic(1);
  EXPECT_EQ(visited(), 1000);
  EXPECT_EQ(omp_get_dynamic(), 0);
  EXPECT_EQ(MaxThreads(), 64);
}

TEST_P(ParallelForThreads, UsesNoMoreThreadsThanGrains) { EXPECT_LE(CallsOf(100, 60).size(), 2u); }

TEST_P(ParallelForThreads, RunsOnOneThreadInsideOfItself) {
  std::vector<int64_t> sums(8, 0);
  ParallelFor(8, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      ParallelFor(100, 1, [&](int64_t inner_begin, int64_t inner_end, int thread) {
        EXPECT_EQ(inner_end - inner_begin, 100);
        EXPECT_EQ(thread, 0);
        for (int64_t j = inner_begin; j < inner_end; ++j) sums[static_cast<size_t>(i)] += j;
      });
    }
  });
  for (const int64_t sum : sums) EXPECT_EQ(sum, 4950);
}

INSTANTIATE_TEST_SUITE_P(Threads, ParallelForThreads, ::testing::Values(1, 2, 3, 5));

TEST_P(ParallelForThreads, AnExceptionOfABodyComesOutOnceAllThreadsAreDone) {
  std::mutex mutex;
  int ranges = 0;
  EXPECT_THROW(ParallelFor(64, 1,
                           [&](int64_t begin, int64_t, int) {
                             const std::lock_guard lock(mutex);
                             ++ranges;
                             if (begin == 0) throw std::bad_alloc();
                           }),
               std::bad_alloc);
  EXPECT_EQ(ranges, GetParam());
  EXPECT_EQ(CallsOf(64, 1).size(), static_cast<size_t>(GetParam())) << "the threads are as they were";
}

}  // namespace
}  // namespace isthmus
