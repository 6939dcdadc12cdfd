#include "tests/cuda_on_cpu/device_memory.h"

#include <cuda_runtime.h>
#include <sys/mman.h>

#include <cstdlib>
#include <map>
#include <mutex>

#include "tests/cuda_on_cpu/stream.h"

namespace isthmus::cuda_on_cpu {
namespace {

constexpr size_t kPage = 4096;

struct DeviceMemory {
  std::mutex mutex;
  std::map<void*, size_t> blocks;  // by address: bytes, whole pages
  int open = 0;

  void Protect(int protection) {
    for (const auto& [memory, bytes] : blocks) mprotect(memory, bytes, protection);
  }
};

DeviceMemory& TheDevice() {
  static DeviceMemory device;
  return device;
}

}  // namespace

DeviceMemoryAccess::DeviceMemoryAccess() {
  DeviceMemory& device = TheDevice();
  const std::lock_guard<std::mutex> lock(device.mutex);
  if (device.open++ == 0) device.Protect(PROT_READ | PROT_WRITE);
}

DeviceMemoryAccess::~DeviceMemoryAccess() {
  DeviceMemory& device = TheDevice();
  const std::lock_guard<std::mutex> lock(device.mutex);
  if (--device.open == 0) device.Protect(PROT_NONE);
}

}  // namespace isthmus::cuda_on_cpu

using isthmus::cuda_on_cpu::DeviceMemoryAccess;
using isthmus::cuda_on_cpu::ForbiddenInCapture;
using isthmus::cuda_on_cpu::Give;
using isthmus::cuda_on_cpu::HoldBack;

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  using isthmus::cuda_on_cpu::kPage;
  if (const cudaError_t error = ForbiddenInCapture(); error != cudaSuccess) return error;
  auto& device = isthmus::cuda_on_cpu::TheDevice();
  const size_t whole = (bytes + kPage) / kPage * kPage;
  const std::lock_guard<std::mutex> lock(device.mutex);
  *memory = mmap(nullptr, whole, device.open > 0 ? PROT_READ | PROT_WRITE : PROT_NONE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (*memory == MAP_FAILED) {
    *memory = nullptr;
    return cudaErrorMemoryAllocation;
  }
  device.blocks[*memory] = whole;
  return cudaSuccess;
}

cudaError_t cudaFree(void* memory) {
  if (const cudaError_t error = ForbiddenInCapture(); error != cudaSuccess) return error;
  auto& device = isthmus::cuda_on_cpu::TheDevice();
  const std::lock_guard<std::mutex> lock(device.mutex);
  const auto found = device.blocks.find(memory);
  if (found == device.blocks.end()) return cudaSuccess;
  munmap(memory, found->second);
  device.blocks.erase(found);
  return cudaSuccess;
}

cudaError_t cudaMallocHost(void** memory, size_t bytes) {
  if (const cudaError_t error = ForbiddenInCapture(); error != cudaSuccess) return error;
  *memory = std::malloc(bytes);
  return *memory != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaFreeHost(void* memory) {
  std::free(memory);
  return cudaSuccess;
}

cudaError_t cudaMemset(void* memory, int value, size_t bytes) {
  if (const cudaError_t error = ForbiddenInCapture(); error != cudaSuccess) return error;
  const DeviceMemoryAccess access;
  std::memset(memory, value, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t stream) {
  return Give(stream, [=] {
    const DeviceMemoryAccess access;
    std::memset(memory, value, bytes);
    return cudaSuccess;
  });
}

cudaError_t cudaMemset2DAsync(void* memory, size_t pitch, int value, size_t width, size_t height, cudaStream_t stream) {
  return Give(stream, [=] {
    const DeviceMemoryAccess access;
    for (size_t row = 0; row < height; ++row) std::memset(static_cast<char*>(memory) + row * pitch, value, width);
    return cudaSuccess;
  });
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  return Give(stream, [=] {
    const DeviceMemoryAccess access;
    kind == cudaMemcpyDeviceToHost ? HoldBack(stream, to, from, bytes) : void(std::memcpy(to, from, bytes));
    return cudaSuccess;
  });
}

cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind, cudaStream_t stream) {
  return Give(stream, [=] {
    const DeviceMemoryAccess access;
    for (size_t row = 0; row < height; ++row) {
      std::memcpy(static_cast<char*>(to) + row * to_pitch, static_cast<const char*>(from) + row * from_pitch, width);
    }
    return cudaSuccess;
  });
}
