// Decides which steps a run refuses, and what it does about them: config.stability.
#ifndef ISTHMUS_LAUNCH_RUN_STABILITY_H_
#define ISTHMUS_LAUNCH_RUN_STABILITY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/train/spike_detector.h"
#include "model/train/step_figures.h"
#include "proto/checkpoint.pb.h"
#include "proto/config.pb.h"
#include "proto/telemetry.pb.h"

namespace isthmus {

// Decisions are a function of the given figures, whose bits are the same on every rank: so is every decision.
// Everything that decisions depend on is in state(), which checkpoints keep.
class Stability {
 public:
  Stability(const proto::StabilityConfig& config, const proto::StabilityState& state);

  // Returns true if a step with these sound figures is to be applied.
  bool Accepts(const StepFigures& figures) const;
  // Is called if the step was applied.
  void Applied(const StepFigures& figures);

  enum class Action { kHalt, kSkip, kRollback };
  struct Verdict {
    Action action = Action::kHalt;
    bool finite = false;  // true if its figures are sound: the step was refused as a spike
    std::string reason;   // of the refusal, or of the end
  };
  // Is called if the step was not applied; returns what to do. Passes over its batch, and with a rollback over as many
  // before it as configured, unless the run ends.
  Verdict Refused(int64_t step, int64_t batch, const StepFigures& figures);

  // Is called when training goes on from a checkpoint with this state (none: from the beginning). The detector is as it
  // was then. Steps refused since stay refused.
  void GoBack(const proto::StabilityState& then);

  proto::StabilityState state() const;
  // Returns the numbers of all batches that refusals pass over.
  std::vector<int64_t> passed_over() const;
  void FillRecord(proto::StabilityRecord& record) const;

 private:
  struct Scores {
    double loss, gradient_norm;
  };
  Scores ScoresOf(const StepFigures& figures) const;
  bool IsSpike(const Scores& scores) const;
  // Returns why no further refusal of this step is allowed; empty if it is.
  std::string LimitReached(int64_t step) const;

  proto::StabilityConfig config_;
  SpikeDetector losses_, gradient_norms_;
  proto::StabilityState counts_;  // without the detector's values
  std::optional<double> last_score_;
};

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_RUN_STABILITY_H_
