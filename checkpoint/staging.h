// A checkpoint is written from this host memory while training changes the tensors that it was copied from.
#ifndef ISTHMUS_CHECKPOINT_STAGING_H_
#define ISTHMUS_CHECKPOINT_STAGING_H_

#include <cstdint>

#include "model/parameters.h"
#include "proto/config.pb.h"
#include "runtime/dtype.h"

namespace isthmus {

// Returns whether a run saves in the background at all.
bool SavesInBackground(const proto::CheckpointConfig& config);

// Returns the bytes that a rank with this table stages: its share of weights and of the optimizer's state, with the
// padding of both. `tensors` is the number of tensors that the optimizer keeps of the parameter of which it keeps most.
// Data ranks stage equally much, whether the optimizer is sharded or not: data that they hold alike are cut evenly among
// them.
int64_t StagingBytes(const ParameterTable& table, DType compute_type, int64_t tensors, int data_ranks);

// Returns the bytes of the rank that stages most; 0 if nothing is saved in the background. `config` must be resolved,
// and its model.vocabulary known.
int64_t PlanStagingBytes(const proto::RunConfig& config);

}  // namespace isthmus

#endif  // ISTHMUS_CHECKPOINT_STAGING_H_
