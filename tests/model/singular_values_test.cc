// Of which step the head's singular values are that a measured step reports.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "runtime/parallel_for.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

using ::testing::ElementsAre;

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

// The values of a wide head are found beside the steps: ten steps later they are known for certain, whatever the time
// that it took.
TEST(SingularValues, OfAWideHeadAreReportedByTheNextTen) {
  TinyOptions options;
  options.width = 1032;
  options.vocabulary = 1040;
  options.feed_forward = options.sequence_length = 8;
  // Threads that wait for each other between many small products are slow where other tests run beside this one.
  const int threads = MaxThreads();
  SetThreads(1);
  Replica replica(options);
  std::vector<int64_t> steps;
  for (const int64_t step : {3, 5, 12, 15, 21}) steps.push_back(SingularValuesStep(replica, step));
  SetThreads(threads);
  EXPECT_THAT(steps, ElementsAre(3, 3, 3, 3, 12));
}

}  // namespace
}  // namespace isthmus::testing
