// A measured step reports the head's singular values with the step to which they belong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <thread>
#include <vector>

#include "launch/run/head_record.h"
#include "model/measure/spectrum_finder.h"
#include "runtime/parallel_for.h"
#include "tests/support/tiny_model.h"

namespace isthmus::testing {
namespace {

using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::SizeIs;

// The step is 0 if none are known.
int64_t SingularValuesStep(Replica& replica, int64_t step) {
  return replica.Step(step, /*measure_head=*/true).head->scalars.singular_values_step();
}

TEST(SingularValues, AreOfTheFirstMeasuredStepOfEveryTen) {
  Replica replica({});
  std::vector<int64_t> steps;
  for (int64_t step = 3; step <= 33; step += 3) steps.push_back(SingularValuesStep(replica, step));
  EXPECT_THAT(steps, ElementsAre(3, 3, 3, 12, 12, 12, 21, 21, 21, 21, 33));
  // A run that goes on after step 10 does this.
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
  const StepWithFigures last = replica.Step(15, /*measure_head=*/true, /*last=*/true);
  SetThreads(threads);
  EXPECT_THAT(first, AnyOf(0, 3));
  EXPECT_THAT(second, AnyOf(first, 3, 12));
  EXPECT_EQ(last.head->scalars.singular_values_step(), 15);
  EXPECT_THAT(last.head->singular_values, SizeIs(1032));
}

// With many sampled tokens the singular values are found beside training, and reported with their step.
TinyOptions WithALargeSample() {
  TinyOptions options;
  options.sequences = 129;
  options.vocabulary = 24;
  options.sample_tokens = 1032;
  return options;
}

TEST(SingularValues, OfALargeSampleHoldUpNoStep) {
  Replica replica(WithALargeSample());
  const auto measure = [&](int64_t step) { return *replica.Step(step, /*measure_head=*/true).head; };
  std::promise<void> open;
  replica.decomposition().UseSampleFinder(
      std::make_unique<SpectrumFinder>(1032, [opened = open.get_future().share()](const Tensor&) {
        opened.wait();
        std::vector<double> energies;
        for (int i = 24; i > 0; --i) energies.push_back(i);
        return energies;
      }));
  const HeadFigures first = measure(3), next = measure(4);
  EXPECT_EQ(first.scalars.sampled_tokens(), 1032);
  EXPECT_GT(first.scalars.sampled_retained_energy_ratio(), 0);
  for (const HeadFigures& unknown : {first, next}) {
    EXPECT_FALSE(unknown.scalars.has_sampled_singular_values_step()) << "its thread is still at work";
    EXPECT_FALSE(unknown.scalars.has_best_rank_energy_ratio());
    EXPECT_FALSE(unknown.scalars.has_best_double_rank_energy_ratio());
    EXPECT_FALSE(unknown.scalars.has_components_for_70_percent());
    EXPECT_FALSE(unknown.scalars.has_components_for_99_9_percent());
    EXPECT_THAT(unknown.sampled_singular_values, SizeIs(0));
  }
  open.set_value();
  while (replica.decomposition().finding()) std::this_thread::yield();
  const HeadFigures found = measure(5);
  EXPECT_EQ(found.scalars.sampled_singular_values_step(), 3) << "of the first measured step of ten";
  EXPECT_EQ(found.scalars.best_double_rank_energy_ratio(), 1) << "the head has 16 columns";
  EXPECT_TRUE(found.scalars.has_best_rank_energy_ratio());
  EXPECT_LT(found.scalars.best_rank_energy_ratio(), 1);
  EXPECT_TRUE(found.scalars.has_components_for_70_percent());
  EXPECT_THAT(found.sampled_singular_values, SizeIs(24));
}

TEST(SingularValues, OfALargeSampleAreThoseOfTheLastStepAtTheEnd) {
  Replica replica(WithALargeSample());
  replica.Step(3, /*measure_head=*/true);
  const HeadFigures last = *replica.Step(5, /*measure_head=*/true, /*last=*/true).head;
  EXPECT_EQ(last.scalars.sampled_singular_values_step(), 5);
  // The head has 16 columns, and G has at most one direction for each of 24 rows but one.
  EXPECT_NEAR(last.scalars.best_double_rank_energy_ratio(), 1, 1e-9);
  EXPECT_TRUE(last.scalars.has_best_rank_energy_ratio());
  EXPECT_LT(last.scalars.best_rank_energy_ratio(), 1);
  EXPECT_THAT(last.sampled_singular_values, SizeIs(::testing::AllOf(::testing::Gt(16u), ::testing::Lt(24u))));
}

// A vocabulary of fewer tokens than the head has columns: all of the gradient passes on, at any width.
TEST(SingularValues, OfAWideHeadOfFewRowsAreThoseOfItsRows) {
  TinyOptions options;
  options.width = 1032;
  options.vocabulary = 40;
  options.feed_forward = options.sequence_length = 8;
  const HeadFigures head = *Replica(options).Step(1, /*measure_head=*/true).head;
  EXPECT_EQ(head.not_measured, "");
  EXPECT_EQ(head.scalars.numerical_rank(), 40);
  EXPECT_THAT(head.singular_values, SizeIs(40));
  EXPECT_TRUE(head.scalars.has_lost_norm_ratio() && head.scalars.has_decomposition_error());
  EXPECT_EQ(head.scalars.lost_norm_ratio(), 0);
  EXPECT_NEAR(head.scalars.decomposition_error(), 0, 1e-12);
}

// A wide head without full rank can't be factored within a step, because that takes minutes on the host.
TEST(SingularValues, OfAWideHeadWithoutFullRankAreNotWaitedFor) {
  TinyOptions options;
  options.width = 1032;
  options.vocabulary = 1040;
  options.feed_forward = options.sequence_length = 8;
  const int threads = MaxThreads();
  SetThreads(1);
  Replica replica(options);
  const Tensor head_weight = replica.model().parameters().Weight("head.weight");
  for (int64_t row = 0; row < head_weight.rows; ++row) {  // two columns alike
    SetElement(head_weight, row * head_weight.columns + 1, ElementOf(head_weight, row * head_weight.columns));
  }
  const HeadFigures head = *replica.Step(1, /*measure_head=*/true).head;
  SetThreads(threads);
  EXPECT_THAT(head.not_measured, ::testing::HasSubstr("to factor one of 1032 columns would hold up the step"));
  EXPECT_FALSE(head.scalars.has_numerical_rank());
  EXPECT_GT(head.scalars.logit_gradient_norm(), 0);
  EXPECT_GT(head.scalars.update_cosine(), 0);
  proto::HeadRecord record;
  FillHeadRecord(head, record);
  EXPECT_TRUE(record.has_logit_gradient_norm());
  EXPECT_FALSE(record.has_numerical_rank());
  EXPECT_FALSE(record.has_isotropic_lost_norm_ratio());
  EXPECT_FALSE(record.has_lost_norm_ratio());
  EXPECT_FALSE(record.has_decomposition_error());
  EXPECT_FALSE(record.has_condition());
}

}  // namespace
}  // namespace isthmus::testing
