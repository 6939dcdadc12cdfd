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

struct CudaDevice {
  std::string name;
  int ordinal = 0;
  int64_t memory_bytes = 0;
  int major = 0, minor = 0;  // compute capability
  int multiprocessors = 0;
  std::string bus_id;  // of the PCI bus; tells the GPUs of a node apart, whatever their ordinals
};

// Returns the number of GPUs. Errors: FailedPrecondition, with the reason, if none can be seen: a build without CUDA,
// no driver, or one that is too old.
absl::StatusOr<int> CudaDeviceCount();
absl::StatusOr<CudaDevice> DescribeCudaDevice(int ordinal);

// Versions as CUDA counts them: 13010 is 13.1. `driver` is the newest that the driver supports, 0 without one.
// `runtime` is the program's, 0 in a build without CUDA.
struct CudaVersions {
  int driver = 0, runtime = 0;
};
CudaVersions FindCudaVersions();
// Says whether GPU `a` can read and write the memory of GPU `b`.
bool CudaPeersReach(int a, int b);

// The GPU of a stream.
absl::StatusOr<CudaDevice> StreamDevice(const Stream& stream);

// Opens a stream of its own on a GPU, with the scratch memory that operators use in turn.
absl::StatusOr<Stream> OpenCudaStream(int ordinal);
// Returns the bytes of that scratch, 0 on the CPU.
int64_t StreamScratchBytes(Device device);

// Returns zeroed memory, aligned to 128 bytes at least. `name` is for the message. Errors: ResourceExhausted.
absl::StatusOr<void*> AllocateMemory(const std::string& name, int64_t bytes, Device device);
void FreeMemory(void* memory, Device device);

// Copies `from` on the stream's device to `to` in host memory. Both have the same dtype and sizes and are contiguous.
// The copy is complete on return.
absl::Status CopyToHost(const ConstTensor& from, const Tensor& to, const Stream& stream);
// Does the same without waiting, in the order of the stream. `to` belongs to a HostBuffer (runtime/host_buffer.h) and
// has the elements once the stream has passed the copy.
absl::Status StartCopyToHost(const ConstTensor& from, const Tensor& to, const Stream& stream);
// Copies the other way; `from` may be used again on return.
absl::Status CopyFromHost(const ConstTensor& from, const Tensor& to, const Stream& stream);
// Does the same without waiting, in the order of the stream. `from` belongs to a HostBuffer (runtime/host_buffer.h) and
// must stay untouched until the stream has passed the copy.
absl::Status StartCopyFromHost(const ConstTensor& from, const Tensor& to, const Stream& stream);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_DEVICE_H_
