#include "model/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace isthmus {

double ScheduleProgress(const proto::ScheduleConfig& schedule, int64_t step, double elapsed_seconds) {
  const int64_t warmup = schedule.warmup_steps(), steps = schedule.steps();
  double progress = steps > warmup ? static_cast<double>(step - warmup) / static_cast<double>(steps - warmup) : 1;
  if (schedule.max_seconds() > 0) progress = std::max(progress, elapsed_seconds / schedule.max_seconds());
  return std::clamp(progress, 0.0, 1.0);
}

double LearningRate(const proto::ScheduleConfig& schedule, double peak, int64_t step, double elapsed_seconds) {
  if (step < schedule.warmup_steps()) {
    return peak * static_cast<double>(step) / static_cast<double>(schedule.warmup_steps());
  }
  const double progress = ScheduleProgress(schedule, step, elapsed_seconds), end = schedule.final_ratio();
  switch (schedule.kind()) {
    case proto::ScheduleConfig::CONSTANT:
      return peak;
    case proto::ScheduleConfig::LINEAR:
      return peak * (1 - (1 - end) * progress);
    case proto::ScheduleConfig::COSINE:
      return peak * (end + (1 - end) * 0.5 * (1 + std::cos(std::numbers::pi * progress)));
    case proto::ScheduleConfig::WARMUP_STABLE_DECAY: {
      const double stable = 1 - schedule.decay_fraction();
      if (progress <= stable || stable >= 1) return peak;
      return peak * (1 - (1 - end) * (progress - stable) / (1 - stable));
    }
  }
  return peak;
}

}  // namespace isthmus
