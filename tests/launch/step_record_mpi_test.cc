// ranks: 1 3
// Phase times of a step over the ranks.
#include <gtest/gtest.h>

#include "launch/run/step_record.h"
#include "tests/support/mpi_world.h"

namespace isthmus::testing {
namespace {

TEST(FillTimeRecord, NamesMinimumMaximumAndSlowestRankOfEachPhase) {
  Communicator& world = World();
  const int rank = world.rank(), last = world.size() - 1;
  // Forward is slowest on the last rank, backward on rank 0, optimizer on rank 1 of 3; the head takes the same on all.
  StepSeconds seconds;
  seconds[StepPhase::kData] = 1e-7 * rank;
  seconds[StepPhase::kForward] = 0.5 + rank;
  seconds[StepPhase::kHead] = 0.125;
  seconds[StepPhase::kBackward] = 100.0 - rank;
  seconds[StepPhase::kOptimizer] = rank == 1 ? 3.0 : 2.0;
  proto::TimeRecord record;
  ASSERT_TRUE(FillTimeRecord(seconds, world, record).ok());
  ASSERT_EQ(record.phases_size(), 7);
  const auto expect = [&](int index, const char* phase, double minimum, double maximum, int slowest) {
    EXPECT_EQ(record.phases(index).phase(), phase);
    EXPECT_EQ(record.phases(index).minimum_seconds(), minimum) << phase;
    EXPECT_EQ(record.phases(index).maximum_seconds(), maximum) << phase;
    EXPECT_EQ(record.phases(index).slowest_rank(), slowest) << phase;
  };
  expect(0, "data", 0, 1e-7 * last, last);
  expect(1, "forward", 0.5, 0.5 + last, last);
  expect(2, "head", 0.125, 0.125, last);
  expect(3, "backward", 100.0 - last, 100, 0);
  expect(4, "reduce", 0, 0, last);
  expect(5, "optimizer", 2, last > 0 ? 3 : 2, last > 0 ? 1 : 0);
  EXPECT_EQ(record.forward_seconds(), 0.5 + last);
  EXPECT_EQ(record.telemetry_seconds(), 0);
}

TEST(FillUtilisation, GivesNoShareOfAPeakThatIsUnknownOrExceeded) {
  proto::TrainRecord record;
  proto::RunRecord facts;
  facts.set_causal_flops_per_token(6);
  facts.set_full_flops_per_token(12);
  EXPECT_TRUE(FillUtilisation(10, facts, record));
  EXPECT_FALSE(record.has_causal_utilisation_ratio());
  facts.set_peak_flops(59);
  EXPECT_FALSE(FillUtilisation(10, facts, record));
  EXPECT_FALSE(record.has_causal_utilisation_ratio());
  EXPECT_FALSE(record.has_full_utilisation_ratio());
  // Attention in full is more than what is computed: that ratio alone may exceed 1.
  facts.set_peak_flops(80);
  EXPECT_TRUE(FillUtilisation(10, facts, record));
  EXPECT_EQ(record.causal_utilisation_ratio(), 0.75);
  EXPECT_EQ(record.full_utilisation_ratio(), 1.5);
}

TEST(CountStep, PutsEachStepIntoItsBucket) {
  proto::Histogram histogram;
  for (const double seconds : {0.0005, 0.001, 0.002, 5000.0}) CountStep(seconds, histogram);
  ASSERT_EQ(histogram.counts_size(), histogram.bounds_size() + 1);
  EXPECT_EQ(histogram.counts(0), 2);
  EXPECT_EQ(histogram.counts(1), 1);
  EXPECT_EQ(histogram.counts(histogram.bounds_size()), 1);
  EXPECT_DOUBLE_EQ(histogram.sum(), 5000.0035);
}

}  // namespace
}  // namespace isthmus::testing
