#include "model/schedule.h"

#include <gtest/gtest.h>

#include <cmath>

namespace isthmus {
namespace {

proto::ScheduleConfig Schedule(proto::ScheduleConfig::Kind kind) {
  proto::ScheduleConfig schedule;
  schedule.set_kind(kind);
  schedule.set_steps(110);
  schedule.set_warmup_steps(10);
  schedule.set_final_ratio(0.1);
  schedule.set_decay_fraction(0.2);
  return schedule;
}

constexpr proto::ScheduleConfig::Kind kKinds[] = {proto::ScheduleConfig::CONSTANT, proto::ScheduleConfig::LINEAR,
                                                  proto::ScheduleConfig::COSINE,
                                                  proto::ScheduleConfig::WARMUP_STABLE_DECAY};

TEST(Schedule, WarmsUpLinearlyToThePeak) {
  for (const auto kind : kKinds) {
    EXPECT_DOUBLE_EQ(LearningRate(Schedule(kind), 2, 1, 0), 0.2);
    EXPECT_DOUBLE_EQ(LearningRate(Schedule(kind), 2, 5, 0), 1);
    EXPECT_DOUBLE_EQ(LearningRate(Schedule(kind), 2, 10, 0), 2);
  }
}

TEST(Schedule, EndsAtTheFinalRatioButForConstant) {
  for (const auto kind : kKinds) {
    EXPECT_NEAR(LearningRate(Schedule(kind), 2, 110, 0), kind == proto::ScheduleConfig::CONSTANT ? 2 : 0.2, 1e-12);
  }
}

TEST(Schedule, FollowsItsFormulaInBetween) {
  EXPECT_NEAR(LearningRate(Schedule(proto::ScheduleConfig::LINEAR), 1, 60, 0), 0.55, 1e-12);
  EXPECT_NEAR(LearningRate(Schedule(proto::ScheduleConfig::COSINE), 1, 60, 0), 0.55, 1e-12);
  EXPECT_NEAR(LearningRate(Schedule(proto::ScheduleConfig::COSINE), 1, 35, 0), 0.1 + 0.9 * 0.5 * (1 + std::sqrt(0.5)),
              1e-12);
  const auto stable = Schedule(proto::ScheduleConfig::WARMUP_STABLE_DECAY);
  EXPECT_DOUBLE_EQ(LearningRate(stable, 1, 90, 0), 1);
  EXPECT_NEAR(LearningRate(stable, 1, 100, 0), 0.55, 1e-12);
}

TEST(Schedule, NeverRisesAfterTheWarmup) {
  for (const auto kind : kKinds) {
    double last = 2;
    for (int64_t step = 10; step <= 110; ++step) {
      const double rate = LearningRate(Schedule(kind), 2, step, 0);
      EXPECT_LE(rate, last);
      EXPECT_GT(rate, 0);
      last = rate;
    }
  }
}

TEST(Schedule, ATimeLimitDecaysWithTheClockWhereItIsAheadOfTheSteps) {
  auto schedule = Schedule(proto::ScheduleConfig::LINEAR);
  schedule.set_max_seconds(100);
  EXPECT_NEAR(LearningRate(schedule, 1, 20, 50), 0.55, 1e-12);
  EXPECT_NEAR(LearningRate(schedule, 1, 60, 10), 0.55, 1e-12);
  EXPECT_NEAR(LearningRate(schedule, 1, 20, 1000), 0.1, 1e-12);
}

TEST(Schedule, WithoutWarmupTheFirstStepHasNearlyThePeakAndOnlyWarmupIsAccepted) {
  auto schedule = Schedule(proto::ScheduleConfig::LINEAR);
  schedule.set_warmup_steps(0);
  EXPECT_NEAR(LearningRate(schedule, 1, 1, 0), 1 - 0.9 / 110, 1e-12);
  schedule.set_warmup_steps(110);
  EXPECT_DOUBLE_EQ(LearningRate(schedule, 1, 55, 0), 0.5);
}

}  // namespace
}  // namespace isthmus
