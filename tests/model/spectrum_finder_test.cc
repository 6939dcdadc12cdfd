// When a head's singular values are found beside training, and which are reported meanwhile.
#include "model/decomposition/spectrum_finder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <thread>
#include <vector>

namespace isthmus::testing {
namespace {

using ::testing::ElementsAre;

// A thread that is done when the test says so: it finds the elements of the matrix.
class SpectrumFinderTest : public ::testing::Test {
 protected:
  // Steps before have to be finished.
  void Begin(int64_t step, double value) {
    done_ = std::promise<void>();
    found_ = done_.get_future();
    numbers_ = {value, value / 2, value / 3, value / 4};
    ASSERT_TRUE(finder_.Begin(Tensor(numbers_.data(), DType::kFloat64, 2, 2), step, stream_).ok());
    numbers_ = {};  // it has copied them
  }
  // The thread still takes a moment to end.
  void Finish() {
    done_.set_value();
    while (finder_.busy()) std::this_thread::yield();
  }

  Stream stream_;
  std::vector<double> numbers_;
  std::promise<void> done_;
  std::future<void> found_;
  SpectrumFinder finder_{[this](const Tensor& gram) {
    found_.wait();
    return std::vector<double>(gram.As<double>(), gram.As<double>() + gram.size());
  }};
};

TEST_F(SpectrumFinderTest, ReportsTheNewestKnownWithoutWaiting) {
  EXPECT_EQ(finder_.Latest(false).step, 0);
  EXPECT_EQ(finder_.Latest(true).step, 0) << "nothing to wait for";
  Begin(3, 12);
  EXPECT_TRUE(finder_.busy());
  EXPECT_EQ(finder_.Latest(false).step, 0);
  Finish();
  EXPECT_EQ(finder_.Latest(false).step, 3);
  EXPECT_THAT(finder_.Latest(false).values, ElementsAre(12, 6, 4, 3));
  Begin(11, 24);
  EXPECT_EQ(finder_.Latest(false).step, 3);
  EXPECT_THAT(finder_.Latest(false).values, ElementsAre(12, 6, 4, 3));
  Finish();
  EXPECT_EQ(finder_.Latest(true).step, 11);
  EXPECT_THAT(finder_.Latest(false).values, ElementsAre(24, 12, 8, 6));
}

TEST_F(SpectrumFinderTest, WaitsWhereAsked) {
  Begin(3, 12);
  const auto later = std::async(std::launch::async, [&] { done_.set_value(); });
  EXPECT_EQ(finder_.Latest(true).step, 3);
  EXPECT_FALSE(finder_.busy());
}

TEST_F(SpectrumFinderTest, IsDueAtTheFirstStepOfEveryTen) {
  EXPECT_TRUE(finder_.Due(3));
  Begin(3, 12);
  EXPECT_FALSE(finder_.Due(10));
  EXPECT_TRUE(finder_.Due(11)) << "though it is busy, which is another question";
  Finish();
  EXPECT_FALSE(finder_.Due(4));
  EXPECT_TRUE(finder_.Due(20));
}

TEST_F(SpectrumFinderTest, ForgetsStepsThatWereTakenBack) {
  Begin(17, 12);
  finder_.Rewind(18);
  EXPECT_FALSE(finder_.Due(18)) << "nothing of it is lost";
  finder_.Rewind(17);
  EXPECT_TRUE(finder_.Due(17));
  Finish();
  EXPECT_EQ(finder_.Latest(false).step, 0) << "what was being found is of weights that are gone";
  Begin(17, 24);
  Finish();
  EXPECT_THAT(finder_.Latest(false).values, ElementsAre(24, 12, 8, 6));
  finder_.Rewind(5);
  EXPECT_EQ(finder_.Latest(true).step, 0);
}

TEST_F(SpectrumFinderTest, WhatWasFoundOtherwiseStands) {
  Begin(3, 12);
  finder_.Set(5, {7, 7});
  EXPECT_FALSE(finder_.Due(6));
  EXPECT_EQ(finder_.Latest(true).step, 5) << "without a wait for what nobody wants";
  Finish();
  EXPECT_EQ(finder_.Latest(false).step, 5);
  EXPECT_THAT(finder_.Latest(false).values, ElementsAre(7, 7));
}

}  // namespace
}  // namespace isthmus::testing
