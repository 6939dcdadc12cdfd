#include "model/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace isthmus {
namespace {

// Returns the share of the peak that remains when `share` of the steps or the time is over. WARMUP_STABLE_DECAY keeps
// the peak until `stable`.
double Decay(const proto::ScheduleConfig& schedule, double share, double stable) {
  const double end = schedule.final_ratio();
  switch (schedule.kind()) {
    case proto::ScheduleConfig::CONSTANT:
      return 1;
    case proto::ScheduleConfig::LINEAR:
      return 1 - (1 - end) * share;
    case proto::ScheduleConfig::COSINE:
      return end + (1 - end) * 0.5 * (1 + std::cos(std::numbers::pi * share));
    case proto::ScheduleConfig::WARMUP_STABLE_DECAY:
      if (share <= stable || stable >= 1) return 1;
      return 1 - (1 - end) * (share - stable) / (1 - stable);
  }
  return 1;
}

// Returns `part` of `whole`, from 0 to 1; 0 if `whole` is 0.
double Share(double part, double whole) { return whole > 0 ? std::clamp(part / whole, 0.0, 1.0) : 0; }

double DecayBySteps(const proto::ScheduleConfig& schedule, int64_t step) {
  const auto now = static_cast<double>(step), warmup = static_cast<double>(schedule.warmup_steps()),
             steps = static_cast<double>(schedule.steps());
  if (schedule.kind() == proto::ScheduleConfig::WARMUP_STABLE_DECAY) {
    return Decay(schedule, Share(now, steps), std::max(1 - schedule.decay_fraction(), Share(warmup, steps)));
  }
  return Decay(schedule, Share(now - warmup, steps - warmup), 0);
}

double DecayByTime(const proto::ScheduleConfig& schedule, double elapsed_seconds) {
  return Decay(schedule, Share(elapsed_seconds, schedule.max_seconds()), 1 - schedule.decay_fraction());
}

}  // namespace

double LearningRate(const proto::ScheduleConfig& schedule, double peak, int64_t step, double elapsed_seconds) {
  double decay = 1;
  if (step >= schedule.warmup_steps()) decay = DecayBySteps(schedule, step);
  if (schedule.max_seconds() > 0) decay = std::min(decay, DecayByTime(schedule, elapsed_seconds));
  const double rate = peak * decay;
  if (step >= schedule.warmup_steps()) return rate;
  return rate * static_cast<double>(step) / static_cast<double>(schedule.warmup_steps());
}

}  // namespace isthmus
