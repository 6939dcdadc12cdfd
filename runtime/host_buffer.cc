#include "runtime/host_buffer.h"

#include <utility>

#include "runtime/cuda/backend.h"
#include "runtime/device.h"
#include "runtime/status.h"

namespace isthmus {

HostBuffer::HostBuffer(HostBuffer&& other) noexcept { *this = std::move(other); }

HostBuffer& HostBuffer::operator=(HostBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(locked_, other.locked_);
  return *this;
}

HostBuffer::~HostBuffer() { Free(); }

void HostBuffer::Free() {
  if (data_ == nullptr) return;
  locked_ ? cuda::FreeHost(data_) : FreeMemory(data_, Device::kCpu);
  data_ = nullptr;
  bytes_ = 0;
}

absl::StatusOr<Tensor> HostBuffer::Room(DType dtype, int64_t rows, int64_t columns, const Stream& stream) {
  const int64_t bytes = rows * columns * SizeOf(dtype);
  if (bytes > bytes_) {
    Free();
    if (stream.on_gpu()) data_ = cuda::AllocateHost(bytes);
    locked_ = data_ != nullptr;
    if (!locked_) {
      if (stream.on_gpu()) stream.Note("host memory could not be page-locked: copies are slower");
      ISTHMUS_ASSIGN_OR_RETURN(data_, AllocateMemory("host buffer", bytes, Device::kCpu));
    }
    bytes_ = bytes;
  }
  return Tensor(data_, dtype, rows, columns);
}

}  // namespace isthmus
