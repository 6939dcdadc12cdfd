#include "model/train/schedule.h"

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
  EXPECT_DOUBLE_EQ(LearningRate(stable, 1, 88, 0), 1);
  EXPECT_NEAR(LearningRate(stable, 1, 99, 0), 0.55, 1e-12);
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
  auto stable = Schedule(proto::ScheduleConfig::WARMUP_STABLE_DECAY);
  stable.set_max_seconds(100);
  EXPECT_DOUBLE_EQ(LearningRate(stable, 1, 20, 80), 1);
  EXPECT_NEAR(LearningRate(stable, 1, 20, 90), 0.55, 1e-12);
}

TEST(Schedule, WithoutWarmupTheFirstStepHasNearlyThePeak) {
  auto schedule = Schedule(proto::ScheduleConfig::LINEAR);
  schedule.set_warmup_steps(0);
  EXPECT_NEAR(LearningRate(schedule, 1, 1, 0), 1 - 0.9 / 110, 1e-12);
  schedule.set_steps(1);
  EXPECT_NEAR(LearningRate(schedule, 1, 1, 0), 0.1, 1e-12);
}

// No steps remain for the decay, so the last step has the peak.
TEST(Schedule, ARunThatIsAllWarmupEndsAtThePeak) {
  for (const auto kind : kKinds) {
    for (const int steps : {1, 110}) {
      SCOPED_TRACE(::testing::Message() << kind << " " << steps);
      auto schedule = Schedule(kind);
      schedule.set_steps(steps);
      schedule.set_warmup_steps(steps);
      for (int64_t step = 1; step <= steps; ++step) {
        EXPECT_DOUBLE_EQ(LearningRate(schedule, 2, step, 0), 2.0 * static_cast<double>(step) / steps);
      }
    }
  }
}

TEST(Schedule, ATimeThatEndsInTheWarmupFindsTheRateDecayed) {
  for (const auto kind : kKinds) {
    auto schedule = Schedule(kind);
    schedule.set_max_seconds(100);
    // The step is half of the warm-up, and the time is over.
    const double decay = kind == proto::ScheduleConfig::CONSTANT ? 1 : 0.1;
    EXPECT_NEAR(LearningRate(schedule, 2, 5, 100), decay, 1e-12) << kind;
    schedule.set_warmup_steps(110);
    EXPECT_NEAR(LearningRate(schedule, 2, 55, 100), decay, 1e-12) << kind;
  }
}

// The rate has no jumps with any warm-up, at any pace. The steepest decay here takes a fifth of the time, at 150 steps
// in all: 0.03 of the peak per step.
TEST(Schedule, TheRateHasNoJumps) {
  constexpr int kSteps = 1000;
  for (const auto kind : kKinds) {
    for (const int warmup : {0, 300, 900, kSteps}) {
      for (const double fraction : {0.0, 0.2, 1.0}) {
        // The time ends with the steps, at a fifth of them, in the middle of the warm-up, or never.
        for (const double seconds_per_step : {1.0, 5.0, 1000.0 / 150, 0.0}) {
          SCOPED_TRACE(::testing::Message() << kind << " " << warmup << " " << fraction << " " << seconds_per_step);
          auto schedule = Schedule(kind);
          schedule.set_steps(kSteps);
          schedule.set_warmup_steps(warmup);
          schedule.set_decay_fraction(fraction);
          if (seconds_per_step > 0) schedule.set_max_seconds(1000);
          const auto rate = [&](int64_t step) {
            return LearningRate(schedule, 1, step, static_cast<double>(step - 1) * seconds_per_step);
          };
          double last = rate(1);
          for (int64_t step = 2; step <= kSteps; ++step) {
            const double now = rate(step);
            ASSERT_LT(std::abs(now - last), 0.035) << step;
            last = now;
          }
        }
      }
    }
  }
}

TEST(Schedule, TheDecayFractionIsOfAllStepsAndWaitsForTheWarmup) {
  auto schedule = Schedule(proto::ScheduleConfig::WARMUP_STABLE_DECAY);
  schedule.set_steps(1000);
  schedule.set_warmup_steps(500);
  const auto begins = [&](double fraction) {
    schedule.set_decay_fraction(fraction);
    int64_t step = 500;
    while (step < 1000 && LearningRate(schedule, 1, step + 1, 0) == 1) ++step;
    return step;
  };
  EXPECT_EQ(begins(0.2), 800);
  EXPECT_EQ(begins(0.5), 500);
  EXPECT_EQ(begins(1), 500);
  EXPECT_EQ(begins(0), 1000);
  schedule.set_decay_fraction(1);
  EXPECT_NEAR(LearningRate(schedule, 1, 750, 0), 0.55, 1e-12);
}

TEST(Schedule, AFinalRatioOfOneNeverDecaysAndOneOfZeroEndsAtZero) {
  for (const auto kind : kKinds) {
    auto schedule = Schedule(kind);
    schedule.set_final_ratio(1);
    for (int64_t step = 10; step <= 110; ++step) EXPECT_DOUBLE_EQ(LearningRate(schedule, 2, step, 0), 2);
    schedule.set_final_ratio(0);
    EXPECT_NEAR(LearningRate(schedule, 2, 110, 0), kind == proto::ScheduleConfig::CONSTANT ? 2 : 0, 1e-12);
  }
}

}  // namespace
}  // namespace isthmus
