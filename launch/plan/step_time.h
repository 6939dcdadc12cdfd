// The time of a step on a machine: every operator at the rate that limits it, every collective where the step waits for
// it.
//
// An operator takes the longer of its operations at the device's rate and its bytes at the memory's. A phase takes the
// longer of its operators and of the host starting their kernels, and then the collectives that nothing hides. Not
// modelled: the slow-down of operators by collectives beside them, differences between ranks, loading of data, the
// host's part of telemetry.
#ifndef ISTHMUS_LAUNCH_PLAN_STEP_TIME_H_
#define ISTHMUS_LAUNCH_PLAN_STEP_TIME_H_

#include <vector>

#include "launch/plan/machine.h"
#include "model/train/step_work.h"
#include "model/train/training_model.h"
#include "runtime/dtype.h"

namespace isthmus {

struct CollectiveTime {
  double call_seconds = 0;     // of one call
  double total_seconds = 0;    // of all calls of a step
  double exposed_seconds = 0;  // of these, what the step waits for
};

struct StepTime {
  StepSeconds phases;                       // telemetry: of a step that measures the head, not in Total
  std::vector<double> operators;            // seconds of all calls, as in StepWork
  std::vector<CollectiveTime> collectives;  // as in StepWork

  double Total() const { return phases.forward + phases.head + phases.backward + phases.reduce + phases.optimizer; }
};

StepTime PredictStep(const StepWork& work, const Machine& machine, DType compute_type, int tensor_ranks,
                     int data_ranks);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_PLAN_STEP_TIME_H_
