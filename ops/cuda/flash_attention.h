// The project's own attention kernels. They serve shapes for which cuDNN has no plan: fp32 everywhere, and unusual
// ones. They take the same arguments as the operators of ops/attention.h.
#ifndef ISTHMUS_OPS_CUDA_FLASH_ATTENTION_CUH_
#define ISTHMUS_OPS_CUDA_FLASH_ATTENTION_CUH_

#include <absl/status/status.h>

#include "ops/attention.h"
#include "runtime/cuda/context.h"

namespace isthmus::cuda {

// The widest head that the kernels take.
inline constexpr int64_t kLargestFlashHeadDim = 256;

absl::Status FlashAttentionForward(const AttentionForwardArgs& args, const Context& context);
absl::Status FlashAttentionBackward(const AttentionBackwardArgs& args, const Context& context);

}  // namespace isthmus::cuda

#endif  // ISTHMUS_OPS_CUDA_FLASH_ATTENTION_CUH_
