// Estimates the time of a step on a machine. Every operator runs at the rate that limits it; every collective counts as
// far as the step waits for it.
//
// An operator takes the longer of its operations at the device's rate and its bytes at the memory's. A collective
// starts when the step starts it and its group is free, and the step waits for the rest of it at its wait. On a device
// that computes nothing meanwhile the step waits for all of it. A phase takes the longer of its operators and of the
// host starting their kernels, and then its waits. Some effects are not modelled: the slow-down of operators by
// collectives beside them, differences between ranks, loading of data, the host's part of telemetry.
#ifndef ISTHMUS_LAUNCH_PLAN_STEP_TIME_H_
#define ISTHMUS_LAUNCH_PLAN_STEP_TIME_H_

#include <vector>

#include "launch/plan/machine.h"
#include "runtime/dtype.h"
#include "runtime/step_phase.h"
#include "runtime/work_recorder.h"

namespace isthmus {

struct CollectiveTime {
  double total_seconds = 0;    // of all calls of a step
  double exposed_seconds = 0;  // of these, what the step waits for
};

struct StepTime {
  StepSeconds phases;
  std::vector<double> operators;            // seconds of all calls, as in RecordedWork
  std::vector<CollectiveTime> collectives;  // as in RecordedWork

  double Total() const;  // of all phases
};

StepTime PredictStep(const RecordedWork& work, const Machine& machine, DType compute_type, int tensor_ranks,
                     int data_ranks);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_PLAN_STEP_TIME_H_
