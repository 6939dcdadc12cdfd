// The weights of a model in a checkpoint: written by any mesh, read by any other.
#ifndef ISTHMUS_CHECKPOINT_WEIGHTS_H_
#define ISTHMUS_CHECKPOINT_WEIGHTS_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <string>

#include "model/parameters.h"
#include "parallel/mesh.h"
#include "proto/checkpoint.pb.h"

namespace isthmus {

// What a manifest says besides its tensors, and the run's tokenizer (empty: none).
struct CheckpointContents {
  proto::CheckpointManifest manifest;
  std::string tokenizer_path;
};

// Writes the checkpoint `folder`; it appears when it is complete, and never replaces another.
// Every tensor rank of the first data rank writes its own slices. Collective over the mesh; fails on all ranks or none.
absl::Status SaveCheckpoint(const std::string& folder, const CheckpointContents& contents,
                            const ParameterStore& parameters, const Mesh& mesh);

// Fills this rank's shard of every parameter from the checkpoint, converting dtypes. Local: reads only what overlaps
// the shard. Errors: DataLoss naming file and tensor for damaged or truncated data; InvalidArgument that lists missing
// and unexpected tensors, or one of another shape.
absl::Status LoadWeights(const std::string& folder, const proto::CheckpointManifest& manifest,
                         const ParameterStore& parameters);

}  // namespace isthmus

#endif  // ISTHMUS_CHECKPOINT_WEIGHTS_H_
