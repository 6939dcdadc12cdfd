#include "checkpoint/staging.h"

#include <algorithm>

#include "model/compute_type.h"
#include "model/model.h"
#include "model/train/parameter_groups.h"
#include "parallel/shard.h"

namespace isthmus {

bool SavesInBackground(const proto::CheckpointConfig& config) { return config.background() && config.interval() > 0; }

int64_t StagingBytes(const ParameterTable& table, DType compute_type, int64_t tensors, int data_ranks) {
  return ShardOf(table.size, data_ranks, 0).size() *
         (SizeOf(compute_type) + tensors * SizeOf(AccumulationType(compute_type)));
}

int64_t PlanStagingBytes(const proto::RunConfig& config) {
  if (!SavesInBackground(config.checkpoint())) return 0;
  const int tensor_ranks = config.mesh().tensor(), data_ranks = config.mesh().data();
  int64_t most = 0;
  for (int rank = 0; rank < tensor_ranks; ++rank) {
    const ParameterTable table = ParametersOf(config, {rank, tensor_ranks, data_ranks});
    const DType type = ComputeType(config.precision());
    size_t tensors = 0;
    for (const ParameterSettings& settings : SettingsOf(config.optimizer(), table)) {
      tensors = std::max(tensors, settings.Kept(type).size());
    }
    most = std::max(most, StagingBytes(table, type, static_cast<int64_t>(tensors), data_ranks));
  }
  return most;
}

}  // namespace isthmus
