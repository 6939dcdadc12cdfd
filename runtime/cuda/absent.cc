// The stand-in for a build without CUDA.
#include "runtime/cuda/backend.h"
#include "runtime/cuda/event.h"
#include "runtime/cuda/event_timer.h"
#include "runtime/cuda/graph.h"
#include "runtime/cuda/trace.h"

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
void Note(const std::string&, const Context&) {}
absl::Status Synchronize(const Context&) { return Absent(); }
absl::StatusOr<void*> Allocate(int64_t) { return Absent(); }
void Free(void*) {}
void* AllocateHost(int64_t) { return nullptr; }
void FreeHost(void*) {}

struct Event::State {};
Event::Event() = default;
Event::~Event() = default;
absl::Status Event::Record(const Context&) { return Absent(); }
absl::Status Event::Wait() const { return Absent(); }

struct EventTimer::State {};
EventTimer::EventTimer(const Context&) {}
EventTimer::~EventTimer() = default;
void EventTimer::Begin(const char*, double&) {}
void EventTimer::End() {}
void EventTimer::Reset() {}
int EventTimer::TakeCaptured() { return 0; }
void EventTimer::Replayed(int) {}
absl::Status EventTimer::Collect() { return Absent(); }

absl::Status StartCopyToHost(const void*, void*, int64_t, const Context&) { return Absent(); }
absl::Status StartCopyFromHost(const void*, void*, int64_t, const Context&) { return Absent(); }

struct Graph::State {};
Graph::Graph(std::unique_ptr<State>) {}
Graph::~Graph() = default;
absl::StatusOr<std::unique_ptr<Graph>> Graph::Capture(const Context&, const std::function<absl::Status()>&) {
  return Absent();
}
absl::Status Graph::Launch() const { return Absent(); }

void PushRange(const char*, int64_t) {}
void PopRange() {}

}  // namespace isthmus::cuda
