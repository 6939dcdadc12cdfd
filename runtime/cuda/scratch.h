// The scratch memory of a stream on a GPU, which each operator may use from its start to its end.
#ifndef ISTHMUS_RUNTIME_CUDA_SCRATCH_H_
#define ISTHMUS_RUNTIME_CUDA_SCRATCH_H_

#include <cstdint>

namespace isthmus::cuda {

inline constexpr int64_t kStreamScratchBytes = int64_t{64} * 1024 * 1024;

}  // namespace isthmus::cuda

#endif  // ISTHMUS_RUNTIME_CUDA_SCRATCH_H_
