// Bytes of workspace that attention takes on a GPU. This is plain arithmetic, the same in every build: a plan made on a
// machine without CUDA states a GPU's memory.
#ifndef ISTHMUS_OPS_CUDA_ATTENTION_WORKSPACE_H_
#define ISTHMUS_OPS_CUDA_ATTENTION_WORKSPACE_H_

#include <algorithm>
#include <cstdint>

#include "ops/attention.h"
#include "ops/cuda/attention_slices.h"
#include "runtime/dtype.h"

namespace isthmus::cuda {

// Workspace of the project's own backward pass: the dot products of `out` and its gradient. The forward pass needs
// none.
constexpr int64_t FlashAttentionWorkspaceBytes(const AttentionShape& shape) {
  return shape.sequences * shape.heads * shape.sequence_length * int64_t{sizeof(float)};
}

// Workspace of cuDNN's deterministic backward pass of all of `shape` at once. It holds the gradient of the scores, a
// T×T matrix for each head, in bf16, with T rounded up to whole blocks. Beside it lie statistics and some slack. If
// query heads share key heads, it also holds the gradients of keys and values for all query heads. The source is
// cudnn_frontend, "dP workspace". For 4 sequences of 4,096 tokens and 32 heads cuDNN 9.14 asked an H200 for
// 4,297,064,704 bytes. This formula gives the same number but for the slack.
constexpr int64_t CudnnBackwardWorkspaceBytes(const AttentionShape& shape) {
  const auto up = [](int64_t count, int64_t multiple) { return (count + multiple - 1) / multiple * multiple; };
  const int64_t heads = shape.sequences * shape.heads, length = shape.sequence_length;
  const int64_t matrix = up(length, 64) * up(length, 128) * int64_t{sizeof(BFloat16)};
  // This is more than any device has; the sums below do not overflow with it.
  constexpr int64_t kMost = int64_t{1} << 60;
  const int64_t scores = heads > kMost / matrix ? kMost : heads * matrix;
  const int64_t statistics = heads * length * int64_t{sizeof(float)};
  const int64_t shared = shape.heads == shape.kv_heads ? 0 : 2 * statistics * shape.head_dim;
  return scores + statistics + shared + (int64_t{1} << 20);
}

// Enough for the largest slice that takes no more than kEnough, which keeps a GPU busy. If there is none, it is enough
// for the smallest slice. If that takes more than kTooMuch (one head of some 65,000 tokens), only the project's own
// kernel is left. cuDNN's plans take bf16 only.
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

// Shape and run time decide between the two kernels; the project's own is always possible.
inline int64_t AttentionWorkspaceBytes(const AttentionShape& shape, DType dtype) {
  return std::max(FlashAttentionWorkspaceBytes(shape), CudnnAttentionWorkspaceBytes(shape, dtype));
}

}  // namespace isthmus::cuda

#endif  // ISTHMUS_OPS_CUDA_ATTENTION_WORKSPACE_H_
