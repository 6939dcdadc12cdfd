// Telemetry records from what the model reports.
#ifndef ISTHMUS_LAUNCH_RUN_STEP_RECORD_H_
#define ISTHMUS_LAUNCH_RUN_STEP_RECORD_H_

#include <absl/status/status.h>

#include <vector>

#include "model/train/parameter_groups.h"
#include "model/train/training_model.h"
#include "parallel/communicator.h"
#include "parallel/mesh.h"
#include "proto/telemetry.pb.h"
#include "runtime/step_phase.h"

namespace isthmus {

// Phase times of the slowest and the fastest rank in each. Collective: one small all-reduce.
absl::Status FillTimeRecord(const StepSeconds& seconds, Communicator& world, proto::TimeRecord& record);

// This rank's own phase times.
void FillRankRecord(const StepSeconds& seconds, const Mesh& mesh, int rank, proto::RankRecord& record);

// Adds one step to a histogram of wall times; the bounds are 1 ms to 1000 s, two in each decade.
void CountStep(double seconds, proto::Histogram& histogram);

// The learning rates of the optimizer's groups of parameters.
void FillGroupRecords(const std::vector<ParameterGroupFigures>& groups, double learning_rate,
                      proto::TelemetryRecord& record);

// The step's floating-point operations (FlopsPerToken in model/model.h) against the peak; nothing if `facts` have no
// peak. A peak is the fastest rate: one that the causal count exceeds was measured while the machine was busy with
// something else, and shares of it would be wrong. Then it sets no ratio and returns false.
bool FillUtilisation(double tokens_per_second, const proto::RunRecord& facts, proto::TrainRecord& record);

// Since 1970.
double UnixSeconds();

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_RUN_STEP_RECORD_H_
