// The clusters of tokens that a checkpoint holds.
#ifndef ISTHMUS_CHECKPOINT_STORED_CLUSTERS_H_
#define ISTHMUS_CHECKPOINT_STORED_CLUSTERS_H_

#include <absl/status/statusor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "proto/checkpoint.pb.h"

namespace isthmus {

// Returns the clusters of the model that the checkpoint is of, [V], checked; none if its head needs none. Errors: as
// those of LoadWeights (checkpoint/weights.h) for a file that is damaged or missing; DataLoss if it holds no clusters
// of that model.
absl::StatusOr<std::vector<int32_t>> LoadClusters(const std::string& folder, const proto::CheckpointManifest& manifest);

}  // namespace isthmus

#endif  // ISTHMUS_CHECKPOINT_STORED_CLUSTERS_H_
