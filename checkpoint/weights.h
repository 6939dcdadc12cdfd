// A checkpoint holds a model, its weights alone or with all that training continues from. Any mesh may write it, and
// any other read it.
#ifndef ISTHMUS_CHECKPOINT_WEIGHTS_H_
#define ISTHMUS_CHECKPOINT_WEIGHTS_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "model/compute_type.h"
#include "model/parameters.h"
#include "model/train/optimizer.h"
#include "parallel/mesh.h"
#include "proto/checkpoint.pb.h"

namespace isthmus {

// These are the facts of a manifest besides its tensors, and the run's tokenizer, clusters and gaps between tokens. It
// has the tokenizer's bytes, not a path: changes of the file while the run goes on do not concern the checkpoint.
struct CheckpointContents {
  proto::CheckpointManifest manifest;
  std::string tokenizer_model;      // empty: none
  std::vector<int32_t> clusters;    // of the tokens, [V]; empty: none
  std::vector<int64_t> token_gaps;  // TokenGaps::State, [3·V]; empty: none
};

struct SavedCheckpoint {
  int64_t bytes = 0;    // of all ranks' files
  bool finite = false;  // every value was looked at, and none is NaN or infinite
};

// Writes the checkpoint `folder`. It appears when it is complete and on disk, and never replaces another. Every rank
// writes its part (PartsToSave) to a file of its own. Without an optimizer it has weights alone. Collective over the
// mesh; fails on all ranks or none, and then leaves nothing of it. Errors: by errno, naming rank and file; of
// collectives.
absl::StatusOr<SavedCheckpoint> SaveCheckpoint(const std::string& folder, const CheckpointContents& contents,
                                               const ParameterStore& parameters, const Mesh& mesh,
                                               const Optimizer* optimizer = nullptr);

// Checks that the checkpoint holds the weights of a model of that configuration, resolved (model/resolve.h). It is
// called before the model's memory is allocated, because a manifest may state any model. Errors: as LoadWeights.
absl::Status CheckHolds(const std::string& folder, const proto::CheckpointManifest& manifest,
                        const proto::RunConfig& config);

// Fills this rank's shard of every parameter from the checkpoint, converting dtypes. Local: reads only what overlaps
// the shard. Errors: DataLoss naming file and tensor for damaged or truncated data; InvalidArgument that lists missing
// and unexpected tensors, or one of another shape.
absl::Status LoadWeights(const std::string& folder, const proto::CheckpointManifest& manifest,
                         const ParameterStore& parameters);

// Does the same with the optimizer's state, and with a check of the folder's other files: all that training continues
// from. Errors: as LoadWeights; InvalidArgument for a checkpoint of weights alone, or of another precision.
absl::Status LoadTrainingState(const std::string& folder, const proto::CheckpointManifest& manifest,
                               const ParameterStore& parameters, const Optimizer& optimizer);

}  // namespace isthmus

#endif  // ISTHMUS_CHECKPOINT_WEIGHTS_H_
