// Tests which work a step does besides training.
#include "launch/run/step_plan.h"

#include <gtest/gtest.h>

#include <cstdint>

#include "model/measure/spectrum_finder.h"
#include "proto/config.pb.h"

namespace isthmus::testing {
namespace {

proto::RunConfig TenSteps() {
  proto::RunConfig config;
  config.mutable_schedule()->set_steps(10);
  config.mutable_telemetry()->set_interval(4);
  config.mutable_telemetry()->set_sample_tokens(1);
  return config;
}

TEST(PlanStep, MeasuresAtTheIntervalAtTheLastStepAndWhereTheHeadIsDumped) {
  proto::RunConfig config = TenSteps();
  config.mutable_telemetry()->set_dump_step(7);
  for (int64_t step = 1; step <= 10; ++step) {
    const StepPlan plan = PlanStep(config, step, 0);
    EXPECT_EQ(plan.step, step);
    EXPECT_EQ(plan.measure, step == 4 || step == 7 || step == 8 || step == 10) << step;
    EXPECT_EQ(plan.dump, step == 7) << step;
    EXPECT_EQ(plan.last, step == 10) << step;
    EXPECT_FALSE(plan.waits_for_spectrum) << step;
  }
}

TEST(PlanStep, MeasuresNothingWithoutAnInterval) {
  proto::RunConfig config = TenSteps();
  config.mutable_telemetry()->set_interval(0);
  for (int64_t step = 1; step <= 10; ++step) EXPECT_FALSE(PlanStep(config, step, 0).measure) << step;
}

TEST(PlanStep, WaitsForTheSpectrumOfALargeSampleWhereItMustBeTheStepsOwn) {
  proto::RunConfig config = TenSteps();
  config.mutable_telemetry()->set_dump_step(7);
  config.mutable_telemetry()->set_sample_tokens(kSpectrumWithinAStep + 1);
  for (int64_t step = 1; step <= 10; ++step) {
    EXPECT_EQ(PlanStep(config, step, 0).waits_for_spectrum, step == 7 || step == 10) << step;
  }
}

TEST(IsDue, IsTrueForEveryStepOfTheInterval) {
  EXPECT_FALSE(IsDue(0, 5));
  EXPECT_FALSE(IsDue(3, 5));
  EXPECT_TRUE(IsDue(3, 6));
  EXPECT_TRUE(IsDue(1, 5));
}

}  // namespace
}  // namespace isthmus::testing
