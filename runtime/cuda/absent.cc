// A build without CUDA.
#include "runtime/cuda/backend.h"
#include "runtime/cuda/event_timer.h"

namespace isthmus::cuda {
namespace {

absl::Status Absent() {
  return absl::FailedPreconditionError("this program was built without CUDA; build it with `cmake --preset cuda`");
}

}  // namespace

absl::StatusOr<int> DeviceCount() { return Absent(); }
absl::StatusOr<CudaDevice> DescribeDevice(int) { return Absent(); }
CudaVersions FindVersions() { return {}; }
bool PeersReach(int, int) { return false; }
absl::StatusOr<CudaDevice> DeviceOf(const Context&) { return Absent(); }
absl::StatusOr<Stream> OpenStream(int) { return Absent(); }
std::vector<std::string> TakeNotes(const Context&) { return {}; }
absl::Status Synchronize(const Context&) { return Absent(); }
absl::StatusOr<void*> Allocate(int64_t) { return Absent(); }
void Free(void*) {}

struct EventTimer::State {};
EventTimer::EventTimer(const Context&) {}
EventTimer::~EventTimer() = default;
void EventTimer::Begin(const char*, double&) {}
void EventTimer::End() {}
void EventTimer::Reset() {}
absl::Status EventTimer::Collect() { return Absent(); }

absl::Status CopyToHost(const void*, void*, int64_t, const Context&) { return Absent(); }
absl::Status CopyFromHost(const void*, void*, int64_t, const Context&) { return Absent(); }

}  // namespace isthmus::cuda
