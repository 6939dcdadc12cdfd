#include "runtime/device.h"

#include <absl/strings/str_cat.h>

#include <cstdlib>
#include <cstring>

#include "runtime/cuda/backend.h"
#include "runtime/cuda/scratch.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr size_t kAlignment = 128;

absl::Status CheckCopy(const ConstTensor& from, const Tensor& to) {
  if (from.dtype == to.dtype && from.size() == to.size() && from.contiguous() && to.contiguous()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("copy between host and device: from ", from.Describe(), " to ",
                                                 to.Describe(), "; needs the same dtype and size, contiguous"));
}

}  // namespace

absl::StatusOr<int> CudaDeviceCount() { return cuda::DeviceCount(); }
absl::StatusOr<CudaDevice> DescribeCudaDevice(int ordinal) { return cuda::DescribeDevice(ordinal); }
CudaVersions FindCudaVersions() { return cuda::FindVersions(); }
bool CudaPeersReach(int a, int b) { return cuda::PeersReach(a, b); }
absl::StatusOr<CudaDevice> StreamDevice(const Stream& stream) { return cuda::DeviceOf(stream.cuda()); }
absl::StatusOr<Stream> OpenCudaStream(int ordinal) { return cuda::OpenStream(ordinal); }
int64_t StreamScratchBytes(Device device) { return device == Device::kCuda ? cuda::kStreamScratchBytes : 0; }

absl::Status Stream::Synchronize() const {
  return device() == Device::kCpu ? absl::OkStatus() : cuda::Synchronize(*context_);
}

std::vector<std::string> Stream::TakeNotes() const {
  return device() == Device::kCpu ? std::vector<std::string>() : cuda::TakeNotes(*context_);
}

void Stream::Note(const std::string& text) const {
  if (device() == Device::kCuda) cuda::Note(text, *context_);
}

absl::StatusOr<void*> AllocateMemory(const std::string& name, int64_t bytes, Device device) {
  void* memory = nullptr;
  if (device == Device::kCuda) {
    ISTHMUS_ASSIGN_OR_RETURN(memory, cuda::Allocate(bytes));
  } else {
    const size_t rounded = (static_cast<size_t>(bytes) + kAlignment - 1) / kAlignment * kAlignment;
    memory = std::aligned_alloc(kAlignment, rounded);
    if (memory != nullptr) std::memset(memory, 0, rounded);
  }
  if (memory != nullptr) return memory;
  return absl::ResourceExhaustedError(absl::StrCat(name, ": can't allocate ", bytes, " bytes of ",
                                                   device == Device::kCuda ? "GPU" : "host",
                                                   " memory; use a smaller model, micro-batch or sequence length, or "
                                                   "more ranks"));
}

void FreeMemory(void* memory, Device device) { device == Device::kCuda ? cuda::Free(memory) : std::free(memory); }

absl::Status CopyToHost(const ConstTensor& from, const Tensor& to, const Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(StartCopyToHost(from, to, stream));
  return stream.Synchronize();
}

absl::Status StartCopyToHost(const ConstTensor& from, const Tensor& to, const Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckCopy(from, to));
  if (from.size() == 0) return absl::OkStatus();
  if (stream.device() == Device::kCuda) return cuda::StartCopyToHost(from.data, to.data, from.bytes(), stream.cuda());
  std::memmove(to.data, from.data, static_cast<size_t>(from.bytes()));
  return absl::OkStatus();
}

absl::Status CopyFromHost(const ConstTensor& from, const Tensor& to, const Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(StartCopyFromHost(from, to, stream));
  return stream.Synchronize();
}

absl::Status StartCopyFromHost(const ConstTensor& from, const Tensor& to, const Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckCopy(from, to));
  if (from.size() == 0) return absl::OkStatus();
  if (stream.device() == Device::kCuda) return cuda::StartCopyFromHost(from.data, to.data, from.bytes(), stream.cuda());
  std::memmove(to.data, from.data, static_cast<size_t>(from.bytes()));
  return absl::OkStatus();
}

}  // namespace isthmus
