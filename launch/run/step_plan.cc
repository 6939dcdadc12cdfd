#include "launch/run/step_plan.h"

#include "model/measure/spectrum_finder.h"
#include "model/train/schedule.h"

namespace isthmus {

StepPlan PlanStep(const proto::RunConfig& config, int64_t step, double elapsed_seconds) {
  const auto& telemetry = config.telemetry();
  const auto& schedule = config.schedule();
  StepPlan plan;
  plan.step = step;
  plan.learning_rate = LearningRate(schedule, config.optimizer().learning_rate(), step, elapsed_seconds);
  plan.last = step == schedule.steps();
  plan.dump = step == telemetry.dump_step();
  plan.measure = plan.dump || IsDue(telemetry.interval(), step) || (telemetry.interval() > 0 && plan.last);
  plan.waits_for_spectrum =
      plan.measure && (plan.dump || plan.last) && telemetry.sample_tokens() > kSpectrumWithinAStep;
  return plan;
}

}  // namespace isthmus
