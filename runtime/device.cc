#include "runtime/device.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
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

void FillIdentity(const Tensor& tensor) {
  std::memset(tensor.data, 0, static_cast<size_t>(tensor.bytes()));
  for (int64_t i = 0; i < std::min(tensor.rows, tensor.columns); ++i) {
    if (tensor.dtype == DType::kFloat64) tensor.Row<double>(i)[i] = 1;
    if (tensor.dtype == DType::kFloat32) tensor.Row<float>(i)[i] = 1;
  }
}

}  // namespace

absl::StatusOr<int> CudaDeviceCount() { return cuda::DeviceCount(); }
absl::StatusOr<CudaDevice> DescribeCudaDevice(int ordinal) { return cuda::DescribeDevice(ordinal); }
CudaVersions FindCudaVersions() { return cuda::FindVersions(); }
bool CudaPeersReach(int a, int b) { return cuda::PeersReach(a, b); }
absl::StatusOr<CudaDevice> StreamDevice(const Stream& stream) { return cuda::DeviceOf(stream.cuda()); }
absl::StatusOr<Stream> OpenCudaStream(int ordinal) { return cuda::OpenStream(ordinal); }
int64_t StreamScratchBytes(Device device) { return device == Device::kCuda ? cuda::kStreamScratchBytes : 0; }

Stream Stream::Dry(Device device, WorkRecorder& recorder) {
  Stream stream;
  stream.device_ = device;
  stream.dry_ = true;
  stream.recorder_ = &recorder;
  return stream;
}

absl::Status Stream::Synchronize() const { return on_gpu() ? cuda::Synchronize(*context_) : absl::OkStatus(); }

std::vector<std::string> Stream::TakeNotes() const {
  return on_gpu() ? cuda::TakeNotes(*context_) : std::vector<std::string>();
}

void Stream::Note(const std::string& text) const {
  if (on_gpu()) cuda::Note(text, *context_);
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
  if (stream.dry()) {
    FillIdentity(to);
    return absl::OkStatus();
  }
  if (stream.on_gpu()) return cuda::StartCopyToHost(from.data, to.data, from.bytes(), stream.cuda());
  std::memmove(to.data, from.data, static_cast<size_t>(from.bytes()));
  return absl::OkStatus();
}

absl::Status CopyFromHost(const ConstTensor& from, const Tensor& to, const Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(StartCopyFromHost(from, to, stream));
  return stream.Synchronize();
}

absl::Status StartCopyFromHost(const ConstTensor& from, const Tensor& to, const Stream& stream) {
  ISTHMUS_RETURN_IF_ERROR(CheckCopy(from, to));
  if (from.size() == 0 || stream.dry()) return absl::OkStatus();
  if (stream.on_gpu()) return cuda::StartCopyFromHost(from.data, to.data, from.bytes(), stream.cuda());
  std::memmove(to.data, from.data, static_cast<size_t>(from.bytes()));
  return absl::OkStatus();
}

}  // namespace isthmus
