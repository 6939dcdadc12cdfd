// Telemetry records from what the model reports.
#ifndef ISTHMUS_LAUNCH_STEP_RECORD_H_
#define ISTHMUS_LAUNCH_STEP_RECORD_H_

#include <absl/status/status.h>

#include "model/head_decomposition.h"
#include "model/training_model.h"
#include "parallel/communicator.h"
#include "proto/telemetry.pb.h"

namespace isthmus {

void FillHeadRecord(const HeadMeasurement& head, proto::HeadRecord& record);

// Phase times of the slowest rank in each. Collective.
absl::Status FillTimeRecord(const StepSeconds& seconds, double data_seconds, Communicator& world,
                            proto::TimeRecord& record);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_STEP_RECORD_H_
