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
class WorkRecorder;  // runtime/work_recorder.h

// An ordered queue of operators on one device. On the CPU an operator has finished when its call returns; on a GPU it
// has only been started, and its operands must stay untouched by the host until Synchronize. Copies name the same
// queue.
class Stream {
 public:
  // The CPU.
  Stream() = default;
  // A GPU; made by OpenCudaStream (runtime/device.h).
  explicit Stream(std::shared_ptr<const cuda::Context> context)
      : device_(Device::kCuda), context_(std::move(context)) {}
  // A dry run of work on `device`, which need not be there: operators are recorded and nothing is computed. Its tensors
  // have addresses without memory. A copy to the host finds the identity matrix, on which every algorithm takes its
  // ordinary way. `recorder` must outlive the stream.
  static Stream Dry(Device device, WorkRecorder& recorder);

  Device device() const { return device_; }
  bool dry() const { return dry_; }
  // Whether a GPU runs the work.
  bool on_gpu() const { return context_ != nullptr; }
  // Only on a GPU.
  const cuda::Context& cuda() const { return *context_; }

  // Where each operator is recorded before it runs; null: nowhere.
  WorkRecorder* recorder() const { return recorder_; }
  // `recorder` must outlive the stream and its copies.
  void set_recorder(WorkRecorder* recorder) { recorder_ = recorder; }

  // Waits until everything started so far has finished. Errors: Internal with what the GPU reports.
  absl::Status Synchronize() const;

  // What operators want the user to know, once each: a kernel that had to stand in for a library's.
  std::vector<std::string> TakeNotes() const;
  // Adds one. Without effect on the CPU, where nothing stands in for anything.
  void Note(const std::string& text) const;

 private:
  Device device_ = Device::kCpu;
  bool dry_ = false;
  std::shared_ptr<const cuda::Context> context_;
  WorkRecorder* recorder_ = nullptr;
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_STREAM_H_
