// Stands before the project's own header of this name: host compilers have no unsized shared arrays.
#ifndef ISTHMUS_TESTS_CUDA_ON_CPU_INCLUDE_OPS_CUDA_DYNAMIC_SHARED_CUH_
#define ISTHMUS_TESTS_CUDA_ON_CPU_INCLUDE_OPS_CUDA_DYNAMIC_SHARED_CUH_

#include <cuda_runtime.h>

namespace isthmus::cuda {

template <typename T>
T* DynamicShared() {
  return reinterpret_cast<T*>(cuda_on_cpu::DynamicSharedMemory());
}

}  // namespace isthmus::cuda

#endif  // ISTHMUS_TESTS_CUDA_ON_CPU_INCLUDE_OPS_CUDA_DYNAMIC_SHARED_CUH_
