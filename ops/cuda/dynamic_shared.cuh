// The shared memory whose size the launch decides (LaunchShape::shared_bytes).
#ifndef ISTHMUS_OPS_CUDA_DYNAMIC_SHARED_CUH_
#define ISTHMUS_OPS_CUDA_DYNAMIC_SHARED_CUH_

#include <cuda_runtime.h>

namespace isthmus::cuda {

template <typename T>
__device__ __forceinline__ T* DynamicShared() {
  extern __shared__ __align__(16) unsigned char memory[];
  return reinterpret_cast<T*>(memory);
}

}  // namespace isthmus::cuda

#endif  // ISTHMUS_OPS_CUDA_DYNAMIC_SHARED_CUH_
