// Of which step the head's singular values are that a measured step reports.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "runtime/parallel_for.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::SizeIs;

int64_t SingularValuesStep(Replica& replica, int64_t step) { return replica.Step(step, true).head->weight.step; }

TEST(SingularValues, AreOfTheFirstMeasuredStepOfEveryTen) {
  Replica replica({});
  std::vector<int64_t> steps;
  for (int64_t step = 3; step <= 33; step += 3) steps.push_back(SingularValuesStep(replica, step));
  EXPECT_THAT(steps, ElementsAre(3, 3, 3, 12, 12, 12, 21, 21, 21, 21, 33));
  // As a run does that goes on after step 10.
  Replica resumed({});
  EXPECT_EQ(SingularValuesStep(resumed, 12), 12);
  EXPECT_EQ(SingularValuesStep(resumed, 15), 12);
}

TEST(SingularValues, OfStepsThatARollbackTookBackAreNotReported) {
  Replica replica({});
  EXPECT_EQ(SingularValuesStep(replica, 17), 17);
  EXPECT_EQ(SingularValuesStep(replica, 28), 28);
  EXPECT_EQ(SingularValuesStep(replica, 16), 16) << "of another ten";
  EXPECT_EQ(SingularValuesStep(replica, 18), 16);
  EXPECT_EQ(SingularValuesStep(replica, 15), 15) << "of the same ten";
  EXPECT_EQ(SingularValuesStep(replica, 15), 15);
}

// The wait for a wide head's values is for the last step alone.
TEST(SingularValues, OfAWideHeadAreThoseOfTheLastStepAtTheEnd) {
  TinyOptions options;
  options.width = 1032;
  options.vocabulary = 1040;
  options.feed_forward = options.sequence_length = 8;
  // Threads that wait for each other between many small products are slow where other tests run beside this one.
  const int threads = MaxThreads();
  SetThreads(1);
  Replica replica(options);
  const int64_t first = SingularValuesStep(replica, 3), second = SingularValuesStep(replica, 12);
  const StepResult last = replica.Step(15, /*measure_head=*/true, /*last=*/true);
  SetThreads(threads);
  EXPECT_THAT(first, AnyOf(0, 3));
  EXPECT_THAT(second, AnyOf(first, 3, 12));
  EXPECT_EQ(last.head->weight.step, 15);
  EXPECT_THAT(last.head->weight.singular_values, SizeIs(1032));
}

}  // namespace
}  // namespace isthmus::testing
