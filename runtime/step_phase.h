// The phases of a training step, and how long each takes.
#ifndef ISTHMUS_RUNTIME_STEP_PHASE_H_
#define ISTHMUS_RUNTIME_STEP_PHASE_H_

#include <array>
#include <cstddef>

namespace isthmus {

// The phases in their order. kData is the host's wait for a batch. kTelemetry happens only on steps that measure the
// head.
enum class StepPhase { kData, kForward, kHead, kBackward, kReduce, kOptimizer, kTelemetry };

// The names in records, plans, profiles and pages.
inline constexpr std::array kStepPhaseNames = {"data",   "forward",   "head",     "backward",
                                               "reduce", "optimizer", "telemetry"};
inline constexpr size_t kStepPhases = kStepPhaseNames.size();

inline constexpr std::array kAllStepPhases = {StepPhase::kData,     StepPhase::kForward, StepPhase::kHead,
                                              StepPhase::kBackward, StepPhase::kReduce,  StepPhase::kOptimizer,
                                              StepPhase::kTelemetry};
static_assert(kAllStepPhases.size() == kStepPhases);

constexpr const char* PhaseName(StepPhase phase) { return kStepPhaseNames[static_cast<size_t>(phase)]; }

// Seconds by phase.
class StepSeconds {
 public:
  constexpr double& operator[](StepPhase phase) { return seconds_[static_cast<size_t>(phase)]; }
  constexpr double operator[](StepPhase phase) const { return seconds_[static_cast<size_t>(phase)]; }

  constexpr StepSeconds& operator+=(const StepSeconds& other) {
    for (size_t i = 0; i < kStepPhases; ++i) seconds_[i] += other.seconds_[i];
    return *this;
  }

 private:
  std::array<double, kStepPhases> seconds_{};
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_STEP_PHASE_H_
