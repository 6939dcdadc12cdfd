// Lists the tensors of a model in training as checkpoints name them, and the parts of them that a rank holds.
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

// A part is a rectangle of one tensor, and the memory that holds it on this rank's device, contiguous.
struct TensorPart {
  const ParameterSpec* spec = nullptr;  // whose weight, master or moment it is
  proto::TensorRole role = proto::WEIGHT;
  Range rows, columns;  // of the whole tensor
  Tensor memory;
};

// Returns the parts that this rank writes. Over the mesh they have every element of every tensor once. Every rank that
// has something of its own writes about as much. Without an optimizer they are weights alone.
std::vector<TensorPart> PartsToSave(const ParameterStore& parameters, const Optimizer* optimizer, const Mesh& mesh);

// Returns all that this rank holds, whoever else holds it too.
std::vector<TensorPart> PartsToLoad(const ParameterStore& parameters, const Optimizer* optimizer);

// Returns "head.weight" or "head.weight (first moment)".
std::string TensorTitle(const std::string& name, proto::TensorRole role);

}  // namespace isthmus

#endif  // ISTHMUS_CHECKPOINT_MODEL_TENSORS_H_
