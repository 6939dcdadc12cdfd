// When a head's singular values are found beside training, and which are reported meanwhile.
#include "model/decomposition/spectrum_finder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <future>
#include <thread>
#include <vector>

namespace isthmus::testing {
namespace {

using ::testing::ElementsAre;

// Threads that are done when the test says so. The first element of a thread's matrix is its number; it finds all four.
class SpectrumFinderTest : public ::testing::Test {
 protected:
  ~SpectrumFinderTest() override {
    for (Gate& gate : gates_) {
      if (!gate.opened) gate.open.set_value();
    }
  }
  void Begin(int64_t step, int thread) {
    std::vector<double> numbers = {thread + 0.0, 3, 2, 1};
    ASSERT_TRUE(finder_.Begin(Tensor(numbers.data(), DType::kFloat64, 2, 2), step, stream_).ok());
    numbers = {};  // it has copied them
  }
  void LetEnd(int thread) {
    Gate& gate = gates_[static_cast<size_t>(thread)];
    gate.open.set_value();
    gate.opened = true;
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
  std::array<Gate, 3> gates_;
  SpectrumFinder finder_{[this](const Tensor& gram) {
    gates_[static_cast<size_t>(gram.As<double>()[0])].passed.wait();
    return std::vector<double>(gram.As<double>(), gram.As<double>() + gram.size());
  }};
};

TEST_F(SpectrumFinderTest, ReportsTheNewestKnownWithoutWaiting) {
  EXPECT_EQ(finder_.Latest(false).step, 0);
  EXPECT_EQ(finder_.Latest(true).step, 0) << "nothing to wait for";
  Begin(3, 0);
  EXPECT_TRUE(finder_.busy());
  EXPECT_EQ(finder_.Latest(false).step, 0);
  End(0);
  EXPECT_EQ(finder_.Latest(false).step, 3);
  EXPECT_THAT(finder_.Latest(false).values, ElementsAre(0, 3, 2, 1));
  Begin(11, 1);
  EXPECT_EQ(finder_.Latest(false).step, 3);
  EXPECT_THAT(finder_.Latest(false).values, ElementsAre(0, 3, 2, 1));
  End(1);
  EXPECT_EQ(finder_.Latest(true).step, 11);
  EXPECT_THAT(finder_.Latest(false).values, ElementsAre(1, 3, 2, 1));
}

TEST_F(SpectrumFinderTest, WaitsWhereAsked) {
  Begin(3, 0);
  const auto later = std::async(std::launch::async, [&] { LetEnd(0); });
  EXPECT_EQ(finder_.Latest(true).step, 3);
  EXPECT_FALSE(finder_.busy());
}

TEST_F(SpectrumFinderTest, IsDueAtTheFirstStepOfEveryTen) {
  EXPECT_TRUE(finder_.Due(3));
  Begin(3, 0);
  EXPECT_FALSE(finder_.Due(10));
  EXPECT_TRUE(finder_.Due(11)) << "though it is busy, which is another question";
  End(0);
  EXPECT_FALSE(finder_.Due(4));
  EXPECT_TRUE(finder_.Due(20));
}

TEST_F(SpectrumFinderTest, BeginsBesideAThreadThatIsBusy) {
  Begin(3, 0);
  Begin(5, 1);
  const auto later = std::async(std::launch::async, [&] { LetEnd(1); });
  EXPECT_EQ(finder_.Latest(true).step, 5) << "without a wait for the first thread";
  EXPECT_THAT(finder_.Latest(false).values, ElementsAre(1, 3, 2, 1));
  EXPECT_TRUE(finder_.busy());
  End(0);
  EXPECT_EQ(finder_.Latest(false).step, 5) << "what the first one found is dropped";
}

TEST_F(SpectrumFinderTest, ForgetsStepsThatWereTakenBack) {
  Begin(17, 0);
  finder_.Rewind(18);
  EXPECT_FALSE(finder_.Due(18)) << "nothing of it is lost";
  finder_.Rewind(17);
  EXPECT_TRUE(finder_.Due(17));
  End(0);
  EXPECT_EQ(finder_.Latest(false).step, 0) << "what was being found is of weights that are gone";
  Begin(17, 1);
  End(1);
  EXPECT_THAT(finder_.Latest(false).values, ElementsAre(1, 3, 2, 1));
  finder_.Rewind(5);
  EXPECT_EQ(finder_.Latest(true).step, 0);
}

TEST_F(SpectrumFinderTest, WhatWasFoundOtherwiseStands) {
  Begin(3, 0);
  finder_.Set(5, {7, 7});
  EXPECT_FALSE(finder_.Due(6));
  EXPECT_EQ(finder_.Latest(true).step, 5) << "without a wait for what nobody wants";
  End(0);
  EXPECT_EQ(finder_.Latest(false).step, 5);
  EXPECT_THAT(finder_.Latest(false).values, ElementsAre(7, 7));
}

}  // namespace
}  // namespace isthmus::testing
