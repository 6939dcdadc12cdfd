// The launch of kernels.
#ifndef ISTHMUS_OPS_CUDA_LAUNCH_CUH_
#define ISTHMUS_OPS_CUDA_LAUNCH_CUH_

#include <absl/status/status.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "runtime/cuda/context.h"
#include "runtime/cuda/error.h"
#include "runtime/status.h"

namespace isthmus::cuda {

struct LaunchShape {
  dim3 blocks;
  dim3 threads;
  int64_t shared_bytes = 0;  // dynamic
};

// Returns the blocks that cover `count` items with `per_block` each.
inline unsigned BlocksFor(int64_t count, int64_t per_block) {
  return static_cast<unsigned>((count + per_block - 1) / per_block);
}

// Returns the blocks for a grid-stride loop over `count` items: enough to fill the device a few times.
inline unsigned StridingBlocks(const Context& context, int64_t count, int64_t per_block) {
  const int64_t most = int64_t{context.multiprocessors} * 16;
  return static_cast<unsigned>(std::min((count + per_block - 1) / per_block, most));
}

// Runs kernel(arguments...) on the context's stream. `name` is for the error message. An empty grid starts nothing.
template <typename... Parameters, typename... Arguments>
absl::Status Launch(const char* name, void (*kernel)(Parameters...), const LaunchShape& shape, const Context& context,
                    Arguments... arguments) {
  if (shape.blocks.x == 0 || shape.blocks.y == 0 || shape.blocks.z == 0) return absl::OkStatus();
  constexpr int64_t kGrantedSharedBytes = 48 * 1024;
  if (shape.shared_bytes > kGrantedSharedBytes) {
    ISTHMUS_RETURN_IF_ERROR(Check(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shape.shared_bytes)),
        name));
  }
  cudaLaunchConfig_t config{};
  config.gridDim = shape.blocks;
  config.blockDim = shape.threads;
  config.dynamicSmemBytes = static_cast<size_t>(shape.shared_bytes);
  config.stream = context.stream;
  return Check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...), name);
}

}  // namespace isthmus::cuda

#endif  // ISTHMUS_OPS_CUDA_LAUNCH_CUH_
