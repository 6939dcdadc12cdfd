// A build without CUDA.
#include "runtime/cuda/backend.h"

namespace isthmus::cuda {
namespace {

absl::Status Absent() {
  return absl::FailedPreconditionError("this program was built without CUDA; build it with `cmake --preset cuda`");
}

}  // namespace

absl::StatusOr<int> DeviceCount() { return Absent(); }
absl::StatusOr<CudaDevice> DescribeDevice(int) { return Absent(); }
absl::StatusOr<Stream> OpenStream(int) { return Absent(); }
absl::Status Synchronize(const Context&) { return Absent(); }
absl::StatusOr<void*> Allocate(int64_t) { return Absent(); }
void Free(void*) {}
absl::Status CopyToHost(const void*, void*, int64_t, const Context&) { return Absent(); }
absl::Status CopyFromHost(const void*, void*, int64_t, const Context&) { return Absent(); }

}  // namespace isthmus::cuda
