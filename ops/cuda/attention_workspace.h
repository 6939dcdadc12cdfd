// Bytes of workspace that attention takes on a GPU. Plain arithmetic, the same in every build: a plan made on a machine
// without CUDA says what a GPU will hold.
#ifndef ISTHMUS_OPS_CUDA_ATTENTION_WORKSPACE_H_
#define ISTHMUS_OPS_CUDA_ATTENTION_WORKSPACE_H_

#include <algorithm>
#include <cstdint>

#include "ops/attention.h"
#include "runtime/dtype.h"

namespace isthmus::cuda {

// Of the project's own backward pass: the dot products of `out` and its gradient. The forward pass needs none.
constexpr int64_t FlashAttentionWorkspaceBytes(const AttentionShape& shape) {
  return shape.sequences * shape.heads * shape.sequence_length * int64_t{sizeof(float)};
}

// What cuDNN's plans may use, which take bf16 only: fp32 sums of the three gradients over all query heads, statistics,
// and some slack, as the deterministic backward pass may ask for.
constexpr int64_t CudnnAttentionWorkspaceBytes(const AttentionShape& shape, DType dtype) {
  if (dtype != DType::kBFloat16) return 0;
  const int64_t tokens = shape.sequences * shape.sequence_length;
  return 3 * tokens * shape.heads * shape.head_dim * int64_t{sizeof(float)} +
         4 * tokens * shape.heads * int64_t{sizeof(float)} + (int64_t{1} << 20);
}

// Either kernel may be chosen, by shape and at run time.
constexpr int64_t AttentionWorkspaceBytes(const AttentionShape& shape, DType dtype) {
  return std::max(FlashAttentionWorkspaceBytes(shape), CudnnAttentionWorkspaceBytes(shape, dtype));
}

}  // namespace isthmus::cuda

#endif  // ISTHMUS_OPS_CUDA_ATTENTION_WORKSPACE_H_
