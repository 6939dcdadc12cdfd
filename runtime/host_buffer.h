// Host memory for data that travels between host and device in every step.
#ifndef ISTHMUS_RUNTIME_HOST_BUFFER_H_
#define ISTHMUS_RUNTIME_HOST_BUFFER_H_

#include <absl/status/statusor.h>

#include <cstdint>

#include "runtime/dtype.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

// The memory is page-locked for the stream of a GPU: copies then take the direct way and need not block the host. It is
// ordinary memory on the CPU. If the system locks no more pages it is ordinary memory, too, with a note to the stream.
class HostBuffer {
 public:
  HostBuffer() = default;
  HostBuffer(HostBuffer&& other) noexcept;
  HostBuffer& operator=(HostBuffer&& other) noexcept;
  ~HostBuffer();

  // Returns the start of the buffer as a contiguous tensor. The buffer grows if needed. Its contents are then lost, and
  // nothing may still be copying from it. Errors: ResourceExhausted.
  absl::StatusOr<Tensor> Room(DType dtype, int64_t rows, int64_t columns, const Stream& stream);
  int64_t bytes() const { return bytes_; }

 private:
  void Free();

  void* data_ = nullptr;
  int64_t bytes_ = 0;
  bool locked_ = false;
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_HOST_BUFFER_H_
