// Tests when a head's singular values are found beside training, and which are reported meanwhile.
#include "model/measure/spectrum_finder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <future>
#include <memory>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/no_threads.h"

namespace isthmus::testing {
namespace {

using ::testing::ElementsAre;

constexpr int64_t kNarrow = 1024, kWide = 1025;

// Threads that are done when the test says so. The first element of a thread's matrix is its number; it finds all four.
class SpectrumFinderTest : public ::testing::Test {
 protected:
  explicit SpectrumFinderTest(int64_t width = kWide)
      : finder_(width, [gates = gates_](const Tensor& gram) {
          (*gates)[static_cast<size_t>(gram.As<double>()[0])].passed.wait();
          return std::vector<double>(gram.As<double>(), gram.As<double>() + gram.size());
        }) {}
  ~SpectrumFinderTest() override {
    for (int thread = 0; thread < 3; ++thread) LetEnd(thread);
  }
  void Begin(int64_t step, int thread) {
    std::vector<double> numbers = {thread + 0.0, 3, 2, 1};
    ASSERT_TRUE(finder_.Begin(Tensor(numbers.data(), DType::kFloat64, 2, 2), step, /*fresh=*/false, stream_).ok());
    numbers = {};  // it has copied them
  }
  void LetEnd(int thread) {
    Gate& gate = (*gates_)[static_cast<size_t>(thread)];
    if (!std::exchange(gate.opened, true)) gate.open.set_value();
  }
  void End(int thread) {
    LetEnd(thread);
    while (finder_.busy()) std::this_thread::yield();
  }

  struct Gate {
    std::promise<void> open;
    std::shared_future<void> passed = open.get_future().share();
    bool opened = false;
  };

  Stream stream_;
  // Threads may outlive the finder.
  std::shared_ptr<std::array<Gate, 3>> gates_ = std::make_shared<std::array<Gate, 3>>();
  SpectrumFinder finder_;
};

class NarrowSpectrumFinderTest : public SpectrumFinderTest {
 protected:
  NarrowSpectrumFinderTest() : SpectrumFinderTest(kNarrow) {}
};

TEST_F(SpectrumFinderTest, ReportsTheNewestKnownWithoutWaiting) {
  EXPECT_EQ(finder_.Latest(false).step, 0);
  EXPECT_EQ(finder_.Latest(true).step, 0) << "nothing to wait for";
  Begin(3, 0);
  EXPECT_TRUE(finder_.busy());
  EXPECT_EQ(finder_.Latest(false).step, 0);
  End(0);
  EXPECT_EQ(finder_.Latest(false).step, 3);
  EXPECT_EQ(finder_.Latest(false).rank, kWide);
  EXPECT_THAT(finder_.Latest(false).values, ElementsAre(0, 3, 2, 1));
  Begin(11, 1);
  EXPECT_EQ(finder_.Latest(false).step, 3);
  EXPECT_THAT(finder_.Latest(false).values, ElementsAre(0, 3, 2, 1));
  End(1);
  EXPECT_EQ(finder_.Latest(true).step, 11);
  EXPECT_THAT(finder_.Latest(false).values, ElementsAre(1, 3, 2, 1));
}

TEST_F(SpectrumFinderTest, WaitsWhereTheyMustBeFresh) {
  Begin(3, 0);
  const auto later = std::async(std::launch::async, [&] { LetEnd(0); });
  EXPECT_EQ(finder_.Latest(/*fresh=*/true).step, 3);
  EXPECT_FALSE(finder_.busy());
}

TEST_F(SpectrumFinderTest, WantsThemAtTheFirstStepOfEveryTenAtWhichTheThreadIsFree) {
  EXPECT_TRUE(finder_.Wants(3, false));
  Begin(3, 0);
  EXPECT_FALSE(finder_.Wants(10, false));
  EXPECT_FALSE(finder_.Wants(11, false)) << "it is busy";
  EXPECT_TRUE(finder_.Wants(11, true));
  End(0);
  EXPECT_FALSE(finder_.Wants(4, false));
  EXPECT_TRUE(finder_.Wants(4, true));
  EXPECT_TRUE(finder_.Wants(13, false));
}

TEST_F(NarrowSpectrumFinderTest, WaitsAlwaysSoThatTheStepsAreTheSameOnEveryMachine) {
  Begin(3, 0);
  EXPECT_FALSE(finder_.Wants(10, false));
  EXPECT_TRUE(finder_.Wants(11, false)) << "though it is busy: the step was given up";
  const auto later = std::async(std::launch::async, [&] { LetEnd(0); });
  EXPECT_EQ(finder_.Latest(false).step, 3);
}

TEST_F(SpectrumFinderTest, BeginsBesideAThreadThatIsBusy) {
  Begin(3, 0);
  Begin(5, 1);
  const auto later = std::async(std::launch::async, [&] { LetEnd(1); });
  EXPECT_EQ(finder_.Latest(true).step, 5) << "without a wait for the first thread";
  EXPECT_THAT(finder_.Latest(false).values, ElementsAre(1, 3, 2, 1));
  EXPECT_TRUE(finder_.busy());
  EXPECT_FALSE(finder_.Wants(11, false));
  End(0);
  EXPECT_EQ(finder_.Latest(false).step, 5) << "what the first one found is dropped";
  EXPECT_THAT(finder_.Latest(false).values, ElementsAre(1, 3, 2, 1));
}

TEST_F(SpectrumFinderTest, ForgetsStepsThatWereTakenBackAndNoOthers) {
  Begin(3, 0);
  End(0);
  EXPECT_EQ(finder_.Latest(false).step, 3);
  Begin(17, 1);
  finder_.Rewind(18);
  EXPECT_FALSE(finder_.Wants(18, false)) << "nothing of it is lost";
  finder_.Rewind(17);
  EXPECT_EQ(finder_.Latest(false).step, 3);
  End(1);
  EXPECT_TRUE(finder_.Wants(17, false));
  EXPECT_EQ(finder_.Latest(false).step, 3) << "what was being found is of weights that are gone";
  EXPECT_THAT(finder_.Latest(false).values, ElementsAre(0, 3, 2, 1));
  Begin(17, 2);
  End(2);
  EXPECT_THAT(finder_.Latest(false).values, ElementsAre(2, 3, 2, 1));
  finder_.Rewind(17);
  EXPECT_EQ(finder_.Latest(false).step, 0);
}

TEST_F(SpectrumFinderTest, WhatWasFoundOtherwiseStands) {
  Begin(3, 0);
  finder_.Set({5, 1, {7, 0}});
  EXPECT_FALSE(finder_.Wants(6, false));
  EXPECT_EQ(finder_.Latest(true).step, 5) << "without a wait for what nobody wants";
  End(0);
  EXPECT_EQ(finder_.Latest(false).step, 5);
  EXPECT_EQ(finder_.Latest(false).rank, 1);
  EXPECT_THAT(finder_.Latest(false).values, ElementsAre(7, 0));
}

// A thread that can't be started, or fails, ends no step. A narrow head's values are then found without a thread, a
// wide head's at another step.
TEST(SpectrumFinder, WithoutAThreadOrMemoryTheRunGoesOn) {
  double number = 1;
  const Tensor gram(&number, DType::kFloat64, 1, 1);
  bool fails = false;
  const auto find = [&fails](const Tensor& found) {
    if (fails) throw std::bad_alloc();
    return std::vector<double>(found.As<double>(), found.As<double>() + found.size());
  };
  SpectrumFinder narrow(kNarrow, find), wide(kWide, find);
  {
    const NoThreads no_threads;
    for (SpectrumFinder* finder : {&narrow, &wide}) ASSERT_TRUE(finder->Begin(gram, 1, /*fresh=*/false, Stream()).ok());
  }
  EXPECT_THAT(narrow.Latest(false).values, ElementsAre(1));
  EXPECT_EQ(wide.Latest(false).step, 0);
  EXPECT_TRUE(wide.Wants(2, false));
  {
    const NoThreads no_threads;
    ASSERT_TRUE(wide.Begin(gram, 2, /*fresh=*/true, Stream()).ok());
  }
  EXPECT_EQ(wide.Latest(true).step, 2) << "training computes itself what it would wait for";
  fails = true;
  for (SpectrumFinder* finder : {&narrow, &wide}) {
    ASSERT_TRUE(finder->Begin(gram, 11, /*fresh=*/false, Stream()).ok());
    finder->Latest(true);
    ASSERT_FALSE(finder->busy());
  }
  EXPECT_EQ(narrow.Latest(false).step, 1) << "the newest that are known";
  EXPECT_EQ(wide.Latest(false).step, 2);
}

// Returns the nice value of the thread that finds.
int NiceValueOfSearch(int64_t width, bool fresh) {
  auto nice = std::make_shared<std::promise<int>>();
  SpectrumFinder finder(width, [nice](const Tensor&) {
    nice->set_value(getpriority(PRIO_PROCESS, static_cast<id_t>(gettid())));
    return std::vector<double>();
  });
  double number = 1;
  EXPECT_TRUE(finder.Begin(Tensor(&number, DType::kFloat64, 1, 1), 1, fresh, Stream()).ok());
  return nice->get_future().get();
}

TEST(SpectrumFinder, YieldsToTrainingUnlessTrainingWaitsForIt) {
  const int own = getpriority(PRIO_PROCESS, 0);
  EXPECT_EQ(NiceValueOfSearch(kWide, /*fresh=*/false), std::max(own, 10));
  EXPECT_EQ(NiceValueOfSearch(kWide, /*fresh=*/true), own);
  EXPECT_EQ(NiceValueOfSearch(kNarrow, /*fresh=*/false), own);
}

// Tells at its thread's end, when all that the thread's function held is freed, that it has come.
class ToldAtThreadExit {
 public:
  explicit ToldAtThreadExit(std::shared_ptr<std::atomic<bool>> told) : told_(std::move(told)) {}
  ~ToldAtThreadExit() {
    *told_ = true;
    told_->notify_all();
  }

 private:
  std::shared_ptr<std::atomic<bool>> told_;
};

// A thread that freed a GPU's memory would not know which GPU it belongs to.
TEST(SpectrumFinder, LeavesTheMemoryOfItsThreadToTheProcess) {
  auto gate = std::make_shared<std::promise<void>>();
  auto ended = std::make_shared<std::atomic<bool>>(false);
  auto address = std::make_shared<std::atomic<uintptr_t>>(0);
  {
    SpectrumFinder finder(kWide, [passed = gate->get_future().share(), ended, address](const Tensor& gram) {
      passed.wait();
      *address = reinterpret_cast<uintptr_t>(gram.data);
      thread_local const ToldAtThreadExit told(ended);
      return std::vector<double>();
    });
    // A block of this size goes back to the system when it is freed.
    std::vector<double> numbers(size_t{8} << 20);
    ASSERT_TRUE(finder
                    .Begin(Tensor(numbers.data(), DType::kFloat64, 1, static_cast<int64_t>(numbers.size())), 1,
                           /*fresh=*/false, Stream())
                    .ok());
  }
  gate->set_value();
  ended->wait(false);
  unsigned char resident = 0;
  constexpr uintptr_t kPage = 4096;
  EXPECT_EQ(mincore(reinterpret_cast<void*>(*address / kPage * kPage), kPage, &resident), 0) << "the thread freed it";
}

TEST(SpectrumFinder, DoesNotWaitForItsThreadAtTheEnd) {
  auto gate = std::make_shared<std::promise<void>>();
  auto passed = gate->get_future().share();
  {
    SpectrumFinder finder(kWide, [passed](const Tensor& gram) {
      passed.wait();
      return std::vector<double>(gram.As<double>(), gram.As<double>() + gram.size());
    });
    double number = 1;
    ASSERT_TRUE(finder.Begin(Tensor(&number, DType::kFloat64, 1, 1), 1, /*fresh=*/false, Stream()).ok());
  }
  gate->set_value();
}

}  // namespace
}  // namespace isthmus::testing
