// The steps in which tokens came, as a checkpoint holds them.
#ifndef ISTHMUS_CHECKPOINT_STORED_TOKEN_GAPS_H_
#define ISTHMUS_CHECKPOINT_STORED_TOKEN_GAPS_H_

#include <absl/status/statusor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "proto/checkpoint.pb.h"

namespace isthmus {

// Returns the state of TokenGaps (model/train/token_gaps.h) after the checkpoint's step, [3·V], checked; nothing if the
// checkpoint has none, as older ones. Errors: as those of LoadWeights (checkpoint/weights.h) for a file that is damaged
// or missing; DataLoss if it holds no such state.
absl::StatusOr<std::vector<int64_t>> LoadTokenGaps(const std::string& folder,
                                                   const proto::CheckpointManifest& manifest);

}  // namespace isthmus

#endif  // ISTHMUS_CHECKPOINT_STORED_TOKEN_GAPS_H_
