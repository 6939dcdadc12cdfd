// The tensors of a model in training as checkpoints name them, and the parts of them that a rank holds.
#ifndef ISTHMUS_CHECKPOINT_MODEL_TENSORS_H_
#define ISTHMUS_CHECKPOINT_MODEL_TENSORS_H_

#include <string>
#include <vector>

#include "model/parameters.h"
#include "model/train/optimizer.h"
#include "parallel/mesh.h"
#include "parallel/shard.h"
#include "proto/checkpoint.pb.h"
#include "runtime/tensor.h"

namespace isthmus {

// A rectangle of one tensor, and the memory that holds it on this rank's device, contiguous.
struct TensorPart {
  const ParameterSpec* spec = nullptr;  // whose weight, master or moment it is
  proto::TensorRole role = proto::WEIGHT;
  Range rows, columns;  // of the whole tensor
  Tensor memory;
};

// What this rank writes: over the mesh every element of every tensor once, and about as much on every rank that has
// something of its own. Without an optimizer weights alone.
std::vector<TensorPart> PartsToSave(const ParameterStore& parameters, const Optimizer* optimizer, const Mesh& mesh);

// All that this rank holds, whoever else holds it too.
std::vector<TensorPart> PartsToLoad(const ParameterStore& parameters, const Optimizer* optimizer);

// "head.weight", "head.weight (first moment)".
std::string TensorTitle(const std::string& name, proto::TensorRole role);

}  // namespace isthmus

#endif  // ISTHMUS_CHECKPOINT_MODEL_TENSORS_H_
