#include "runtime/cuda/backend.h"

#include <absl/strings/str_cat.h>

#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "runtime/cuda/context.h"
#include "runtime/cuda/error.h"
#include "runtime/status.h"

namespace isthmus::cuda {

absl::StatusOr<int> DeviceCount() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess && count > 0) return count;
  // The runtime keeps the last error; the next call must not find this one.
  cudaGetLastError();
  if (error == cudaSuccess) return absl::FailedPreconditionError("no CUDA device");
  return absl::FailedPreconditionError(absl::StrCat("no CUDA device: ", cudaGetErrorString(error)));
}

absl::StatusOr<CudaDevice> DescribeDevice(int ordinal) {
  cudaDeviceProp properties{};
  ISTHMUS_RETURN_IF_ERROR(Check(cudaGetDeviceProperties(&properties, ordinal), "cudaGetDeviceProperties"));
  CudaDevice device;
  device.name = properties.name;
  device.ordinal = ordinal;
  device.memory_bytes = static_cast<int64_t>(properties.totalGlobalMem);
  device.major = properties.major;
  device.minor = properties.minor;
  device.multiprocessors = properties.multiProcessorCount;
  char bus_id[32] = {};
  ISTHMUS_RETURN_IF_ERROR(Check(cudaDeviceGetPCIBusId(bus_id, sizeof(bus_id), ordinal), "cudaDeviceGetPCIBusId"));
  device.bus_id = bus_id;
  return device;
}

CudaVersions FindVersions() {
  CudaVersions versions;
  if (cudaDriverGetVersion(&versions.driver) != cudaSuccess) versions.driver = 0;
  if (cudaRuntimeGetVersion(&versions.runtime) != cudaSuccess) versions.runtime = 0;
  return versions;
}

bool PeersReach(int a, int b) {
  int reach = 0;
  return cudaDeviceCanAccessPeer(&reach, a, b) == cudaSuccess && reach != 0;
}

absl::StatusOr<CudaDevice> DeviceOf(const Context& context) { return DescribeDevice(context.ordinal); }

absl::StatusOr<Stream> OpenStream(int ordinal) {
  ISTHMUS_ASSIGN_OR_RETURN(const CudaDevice device, DescribeDevice(ordinal));
  ISTHMUS_RETURN_IF_ERROR(Check(cudaSetDevice(ordinal), "cudaSetDevice"));
  auto context = std::make_shared<Context>();
  context->ordinal = ordinal;
  context->major = device.major;
  context->minor = device.minor;
  context->multiprocessors = device.multiprocessors;
  ISTHMUS_RETURN_IF_ERROR(
      Check(cudaStreamCreateWithFlags(&context->stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags"));
  ISTHMUS_RETURN_IF_ERROR(
      Check(cudaMalloc(&context->scratch, static_cast<size_t>(Context::kScratchBytes)), "cudaMalloc of scratch"));
  return Stream(std::move(context));
}

Context::~Context() {
  services_.clear();
  if (scratch != nullptr) cudaFree(scratch);
  if (stream != nullptr) cudaStreamDestroy(stream);
}

void Context::Note(const std::string& text) const {
  const std::lock_guard<std::mutex> lock(notes_mutex_);
  if (noted_.insert(text).second) notes_.push_back(text);
}

std::vector<std::string> Context::TakeNotes() const {
  const std::lock_guard<std::mutex> lock(notes_mutex_);
  return std::exchange(notes_, {});
}

std::vector<std::string> TakeNotes(const Context& context) { return context.TakeNotes(); }
void Note(const std::string& text, const Context& context) { context.Note(text); }

absl::Status Synchronize(const Context& context) {
  return Check(cudaStreamSynchronize(context.stream), "cudaStreamSynchronize");
}

absl::StatusOr<void*> Allocate(int64_t bytes) {
  void* memory = nullptr;
  const cudaError_t error = cudaMalloc(&memory, static_cast<size_t>(bytes));
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  ISTHMUS_RETURN_IF_ERROR(Check(error, "cudaMalloc"));
  ISTHMUS_RETURN_IF_ERROR(Check(cudaMemset(memory, 0, static_cast<size_t>(bytes)), "cudaMemset"));
  // Streams of this program do not wait for the default stream.
  ISTHMUS_RETURN_IF_ERROR(Check(cudaStreamSynchronize(nullptr), "cudaMemset"));
  return memory;
}

void Free(void* memory) { cudaFree(memory); }

void* AllocateHost(int64_t bytes) {
  void* memory = nullptr;
  if (cudaMallocHost(&memory, static_cast<size_t>(bytes)) == cudaSuccess) return memory;
  cudaGetLastError();
  return nullptr;
}

void FreeHost(void* memory) { cudaFreeHost(memory); }

absl::Status StartCopyToHost(const void* from, void* to, int64_t bytes, const Context& context) {
  return Check(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost, context.stream),
               "copy to the host");
}

absl::Status StartCopyFromHost(const void* from, void* to, int64_t bytes, const Context& context) {
  return Check(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyHostToDevice, context.stream),
               "copy from the host");
}

}  // namespace isthmus::cuda
