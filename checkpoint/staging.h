// The host memory from which a checkpoint is written while training changes what it was copied from.
#ifndef ISTHMUS_CHECKPOINT_STAGING_H_
#define ISTHMUS_CHECKPOINT_STAGING_H_

#include <cstdint>

#include "model/parameters.h"
#include "proto/config.pb.h"
#include "runtime/dtype.h"

namespace isthmus {

// Whether a run saves in the background at all.
bool SavesInBackground(const proto::CheckpointConfig& config);

// Bytes that a rank with this table stages: its share of weights and of the optimizer's state, with the padding of
// both. Data ranks stage equally much, whether the optimizer is sharded or not: what they hold alike is cut evenly
// among them.
int64_t StagingBytes(const ParameterTable& table, DType compute_type, int data_ranks);

// Of the rank that stages most; 0 where nothing is saved in the background. `config` is resolved, and its
// model.vocabulary known.
int64_t PlanStagingBytes(const proto::RunConfig& config);

}  // namespace isthmus

#endif  // ISTHMUS_CHECKPOINT_STAGING_H_
