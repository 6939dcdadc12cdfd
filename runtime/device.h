// The devices of this machine, and memory on them.
#ifndef ISTHMUS_RUNTIME_DEVICE_H_
#define ISTHMUS_RUNTIME_DEVICE_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <string>

#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

// Whether this program was built with the CUDA backend (`cmake --preset cuda`).
inline constexpr bool kHasCuda = ISTHMUS_HAS_CUDA != 0;

struct CudaDevice {
  std::string name;
  int ordinal = 0;
  int64_t memory_bytes = 0;
  int major = 0, minor = 0;  // compute capability
  int multiprocessors = 0;
};

// How many GPUs there are. Errors: FailedPrecondition saying why there are none to be seen: a build without CUDA, no
// driver, one that is too old.
absl::StatusOr<int> CudaDeviceCount();
absl::StatusOr<CudaDevice> DescribeCudaDevice(int ordinal);

// A stream of its own on a GPU, with the scratch memory that operators use in turn.
absl::StatusOr<Stream> OpenCudaStream(int ordinal);

// Zeroed memory, aligned to 128 bytes at least. `name` is for the message. Errors: ResourceExhausted.
absl::StatusOr<void*> AllocateMemory(const std::string& name, int64_t bytes, Device device);
void FreeMemory(void* memory, Device device);

// `from` on the stream's device to `to` in host memory, same dtype and sizes, both contiguous. Complete on return.
absl::Status CopyToHost(const Tensor& from, const Tensor& to, const Stream& stream);
// The other way; `from` may be used again on return.
absl::Status CopyFromHost(const Tensor& from, const Tensor& to, const Stream& stream);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_DEVICE_H_
