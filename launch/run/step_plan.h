// Plans the work of a step besides training.
#ifndef ISTHMUS_LAUNCH_RUN_STEP_PLAN_H_
#define ISTHMUS_LAUNCH_RUN_STEP_PLAN_H_

#include <cstdint>

#include "proto/config.pb.h"

namespace isthmus {

struct StepPlan {
  int64_t step = 0;
  double learning_rate = 0;
  bool last = false;                // of the schedule; a time limit may end the run before
  bool dump = false;                // the head's tensors become files
  bool measure = false;             // the head is decomposed
  bool waits_for_spectrum = false;  // rank 0 computes the spectrum of a large sample, and all ranks wait for it
};

// `elapsed_seconds` is that of training, the same on every rank. It counts only in a run with a time limit.
StepPlan PlanStep(const proto::RunConfig& config, int64_t step, double elapsed_seconds);

// Returns true for every `interval`-th step; 0: none.
inline bool IsDue(int64_t interval, int64_t step) { return interval > 0 && step % interval == 0; }

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_RUN_STEP_PLAN_H_
