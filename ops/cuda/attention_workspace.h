// Bytes of workspace that attention takes on a GPU. Plain arithmetic, the same in every build: a plan made on a machine
// without CUDA says what a GPU will hold.
#ifndef ISTHMUS_OPS_CUDA_ATTENTION_WORKSPACE_H_
#define ISTHMUS_OPS_CUDA_ATTENTION_WORKSPACE_H_

#include <algorithm>
#include <cstdint>

#include "ops/attention.h"
#include "ops/cuda/attention_slices.h"
#include "runtime/dtype.h"

namespace isthmus::cuda {

// Of the project's own backward pass: the dot products of `out` and its gradient. The forward pass needs none.
constexpr int64_t FlashAttentionWorkspaceBytes(const AttentionShape& shape) {
  return shape.sequences * shape.heads * shape.sequence_length * int64_t{sizeof(float)};
}

// Of cuDNN's deterministic backward pass of all of `shape` at once: the gradient of the queries once for each 128 keys
// (measured on an H200 with cuDNN 9.14), those of keys and values over all query heads, statistics, and some slack.
constexpr int64_t CudnnBackwardWorkspaceBytes(const AttentionShape& shape) {
  const int64_t tokens = shape.sequences * shape.sequence_length;
  const int64_t copies = (shape.sequence_length + 127) / 128 + 2;
  return copies * tokens * shape.heads * shape.head_dim * int64_t{sizeof(float)} +
         4 * tokens * shape.heads * int64_t{sizeof(float)} + (int64_t{1} << 20);
}

// Enough for the largest slice that takes no more than kEnough, which keeps a GPU busy, or for the smallest one, unless
// that takes more than kTooMuch (one head of some 45,000 tokens): what is left then is the project's own kernel.
// cuDNN's plans take bf16 only.
inline int64_t CudnnAttentionWorkspaceBytes(const AttentionShape& shape, DType dtype) {
  constexpr int64_t kEnough = int64_t{5} << 28, kTooMuch = int64_t{8} << 30;
  if (dtype != DType::kBFloat16) return 0;
  int64_t bytes = 0;
  for (const AttentionShape& slice : AttentionSlices(shape)) {
    bytes = CudnnBackwardWorkspaceBytes(slice);
    if (bytes <= kEnough) return bytes;
  }
  return bytes <= kTooMuch ? bytes : 0;
}

// Either kernel may be chosen, by shape and at run time.
inline int64_t AttentionWorkspaceBytes(const AttentionShape& shape, DType dtype) {
  return std::max(FlashAttentionWorkspaceBytes(shape), CudnnAttentionWorkspaceBytes(shape, dtype));
}

}  // namespace isthmus::cuda

#endif  // ISTHMUS_OPS_CUDA_ATTENTION_WORKSPACE_H_
