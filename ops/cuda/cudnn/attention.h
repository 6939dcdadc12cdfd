// Attention by cuDNN's fused scaled-dot-product attention, causal, grouped-query, deterministic. This folder implements
// it; in a build without cuDNN or its front end, absent.cc does.
#ifndef ISTHMUS_OPS_CUDA_CUDNN_ATTENTION_H_
#define ISTHMUS_OPS_CUDA_CUDNN_ATTENTION_H_

#include <absl/status/status.h>

#include "ops/attention.h"
#include "runtime/cuda/context.h"

namespace isthmus::cuda {

// Returns Unimplemented, with cuDNN's reason and nothing started, if cuDNN has no plan for the shape, the type or the
// workspace.
absl::Status CudnnAttentionForward(const AttentionForwardArgs& args, const Context& context);
absl::Status CudnnAttentionBackward(const AttentionBackwardArgs& args, const Context& context);

}  // namespace isthmus::cuda

#endif  // ISTHMUS_OPS_CUDA_CUDNN_ATTENTION_H_
