// Memory that only kernels and copies may touch: its pages are closed to the rest of the program.
#ifndef ISTHMUS_TESTS_CUDA_ON_CPU_DEVICE_MEMORY_H_
#define ISTHMUS_TESTS_CUDA_ON_CPU_DEVICE_MEMORY_H_

namespace isthmus::cuda_on_cpu {

// Opens all device memory while it lives. Nests.
class DeviceMemoryAccess {
 public:
  DeviceMemoryAccess();
  ~DeviceMemoryAccess();
  DeviceMemoryAccess(const DeviceMemoryAccess&) = delete;
  DeviceMemoryAccess& operator=(const DeviceMemoryAccess&) = delete;
};

}  // namespace isthmus::cuda_on_cpu

#endif  // ISTHMUS_TESTS_CUDA_ON_CPU_DEVICE_MEMORY_H_
