// The functions of CUDA that runtime/device.h needs. This folder implements them; in a build without CUDA, absent.cc
// does.
#ifndef ISTHMUS_RUNTIME_CUDA_BACKEND_H_
#define ISTHMUS_RUNTIME_CUDA_BACKEND_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/device.h"

namespace isthmus::cuda {

absl::StatusOr<int> DeviceCount();
absl::StatusOr<CudaDevice> DescribeDevice(int ordinal);
CudaVersions FindVersions();
bool PeersReach(int a, int b);
absl::StatusOr<CudaDevice> DeviceOf(const Context& context);
absl::StatusOr<Stream> OpenStream(int ordinal);
std::vector<std::string> TakeNotes(const Context& context);
void Note(const std::string& text, const Context& context);
absl::Status Synchronize(const Context& context);
// Returns zeroed memory, or nullptr if there is no room.
absl::StatusOr<void*> Allocate(int64_t bytes);
void Free(void* memory);
// Returns page-locked host memory, or nullptr if none is available.
void* AllocateHost(int64_t bytes);
void FreeHost(void* memory);
absl::Status StartCopyToHost(const void* from, void* to, int64_t bytes, const Context& context);
absl::Status StartCopyFromHost(const void* from, void* to, int64_t bytes, const Context& context);

}  // namespace isthmus::cuda

#endif  // ISTHMUS_RUNTIME_CUDA_BACKEND_H_
