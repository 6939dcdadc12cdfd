#include "checkpoint/staging.h"

#include <algorithm>

#include "model/compute_type.h"
#include "model/model.h"
#include "parallel/shard.h"

namespace isthmus {

bool SavesInBackground(const proto::CheckpointConfig& config) { return config.background() && config.interval() > 0; }

int64_t StagingBytes(const ParameterTable& table, DType compute_type, int data_ranks) {
  const int64_t moments = 2 * SizeOf(AccumulationType(compute_type));
  const int64_t master = compute_type == DType::kBFloat16 ? SizeOf(DType::kFloat32) : 0;
  return ShardOf(table.size, data_ranks, 0).size() * (SizeOf(compute_type) + moments + master);
}

int64_t PlanStagingBytes(const proto::RunConfig& config) {
  if (!SavesInBackground(config.checkpoint())) return 0;
  const int tensor_ranks = config.mesh().tensor(), data_ranks = config.mesh().data();
  int64_t most = 0;
  for (int rank = 0; rank < tensor_ranks; ++rank) {
    const ParameterTable table = ParametersOf(config, {rank, tensor_ranks, data_ranks});
    most = std::max(most, StagingBytes(table, ComputeType(config.precision()), data_ranks));
  }
  return most;
}

}  // namespace isthmus
