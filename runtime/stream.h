// Where work runs, in order.
#ifndef ISTHMUS_RUNTIME_STREAM_H_
#define ISTHMUS_RUNTIME_STREAM_H_

#include <absl/status/status.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace isthmus {

namespace cuda {
struct Context;  // runtime/cuda/context.h
}

enum class Device : uint8_t { kCpu, kCuda };

// An ordered queue of operators on one device. On the CPU an operator has finished when its call returns; on a GPU it
// has only been started, and its operands must stay untouched by the host until Synchronize. Copies name the same
// queue.
class Stream {
 public:
  // The CPU.
  Stream() = default;
  // A GPU; made by OpenCudaStream (runtime/device.h).
  explicit Stream(std::shared_ptr<const cuda::Context> context) : context_(std::move(context)) {}

  Device device() const { return context_ == nullptr ? Device::kCpu : Device::kCuda; }
  // Only of a GPU.
  const cuda::Context& cuda() const { return *context_; }

  // Waits until everything started so far has finished. Errors: Internal with what the GPU reports.
  absl::Status Synchronize() const;

  // What operators want the user to know, once each: a kernel that had to stand in for a library's.
  std::vector<std::string> TakeNotes() const;
  // Adds one. Without effect on the CPU, where nothing stands in for anything.
  void Note(const std::string& text) const;

 private:
  std::shared_ptr<const cuda::Context> context_;
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_STREAM_H_
