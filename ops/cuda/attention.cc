#include "ops/attention.h"

#include "ops/cuda/flash_attention.h"
#include "ops/cuda/kernels.h"

namespace isthmus::cuda {

absl::Status AttentionForward(const AttentionForwardArgs& args, const Context& context) {
  return FlashAttentionForward(args, context);
}

absl::Status AttentionBackward(const AttentionBackwardArgs& args, const Context& context) {
  return FlashAttentionBackward(args, context);
}

int64_t AttentionWorkspaceBytes(const AttentionShape& shape, DType) { return FlashAttentionWorkspaceBytes(shape); }

}  // namespace isthmus::cuda
