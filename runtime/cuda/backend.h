// What runtime/device.h needs of CUDA: implemented by this folder, or, in a build without CUDA, by absent.cc.
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
// Zeroed; nullptr where there is no room.
absl::StatusOr<void*> Allocate(int64_t bytes);
void Free(void* memory);
// Page-locked host memory; nullptr where there is none to be had.
void* AllocateHost(int64_t bytes);
void FreeHost(void* memory);
absl::Status StartCopyToHost(const void* from, void* to, int64_t bytes, const Context& context);
absl::Status StartCopyFromHost(const void* from, void* to, int64_t bytes, const Context& context);

}  // namespace isthmus::cuda

#endif  // ISTHMUS_RUNTIME_CUDA_BACKEND_H_
