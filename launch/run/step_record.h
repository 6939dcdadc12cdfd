// Makes telemetry records from the figures that the model reports.
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

// Fills in phase times of the slowest and the fastest rank in each. Collective: one small all-reduce.
absl::Status FillTimeRecord(const StepSeconds& seconds, Communicator& world, proto::TimeRecord& record);

// Fills in this rank's own phase times.
void FillRankRecord(const StepSeconds& seconds, const Mesh& mesh, int rank, proto::RankRecord& record);

// Adds one step to a histogram of wall times; the bounds are 1 ms to 1000 s, two in each decade.
void CountStep(double seconds, proto::Histogram& histogram);

// Fills in the learning rates of the optimizer's groups of parameters.
void FillGroupRecords(const std::vector<ParameterGroupFigures>& groups, double learning_rate,
                      proto::TelemetryRecord& record);

// Fills in how far the update lowers the loss, by part of the model and by group. The groups' records exist already.
void FillUpdateRecords(const LossDecreases& decreases, proto::TelemetryRecord& record);

// Compares the step's floating-point operations (FlopsPerToken in model/model.h) with the peak; fills in nothing if
// `facts` have no peak. A peak is the fastest rate. If the causal count exceeds it, it was measured while the machine
// was busy with something else, and shares of it would be wrong. Then it sets no ratio and returns false.
bool FillUtilisation(double tokens_per_second, const proto::RunRecord& facts, proto::TrainRecord& record);

// Returns the seconds since 1970.
double UnixSeconds();

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_RUN_STEP_RECORD_H_
