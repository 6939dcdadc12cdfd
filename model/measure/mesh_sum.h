// Sums tensors over the whole mesh. They lie on its stream's device, which the world's group doesn't take.
#ifndef ISTHMUS_MODEL_MEASURE_MESH_SUM_H_
#define ISTHMUS_MODEL_MEASURE_MESH_SUM_H_

#include <absl/status/status.h>

#include "parallel/mesh.h"
#include "runtime/status.h"
#include "runtime/tensor.h"

namespace isthmus {

// Replaces every number of a contiguous tensor by its sum over the ranks. Collective.
inline absl::Status SumOverMesh(const Tensor& tensor, const Mesh& mesh) {
  const Tensor whole = tensor.Reshape(1, tensor.size());
  if (mesh.tensor_ranks() > 1) ISTHMUS_RETURN_IF_ERROR(mesh.tensor().AllReduce(whole));
  return mesh.data().AllReduce(whole);
}

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_MESH_SUM_H_
