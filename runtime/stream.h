// The queue in which work runs, in order.
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

// An ordered queue of operators on one device. On the CPU an operator has finished when its call returns. On a GPU it
// has only been started, and the host must leave its operands untouched until Synchronize. Copies name the same queue.
class Stream {
 public:
  // A stream of the CPU.
  Stream() = default;
  // A stream of a GPU, made by OpenCudaStream (runtime/device.h).
  explicit Stream(std::shared_ptr<const cuda::Context> context)
      : device_(Device::kCuda), context_(std::move(context)) {}
  // A dry run of work on `device`, which need not be there: operators are recorded and nothing is computed. Its tensors
  // have addresses without memory. A copy to the host finds the identity matrix, on which every algorithm takes its
  // ordinary way. `recorder` must outlive the stream.
  static Stream Dry(Device device, WorkRecorder& recorder);

  Device device() const { return device_; }
  bool dry() const { return dry_; }
  // Says whether a GPU runs the work.
  bool on_gpu() const { return context_ != nullptr; }
  // It exists only on a GPU.
  const cuda::Context& cuda() const { return *context_; }

  // The recorder that notes each operator before it runs; null if there is none.
  WorkRecorder* recorder() const { return recorder_; }
  // `recorder` must outlive the stream and its copies.
  void set_recorder(WorkRecorder* recorder) { recorder_ = recorder; }

  // Waits until everything started so far has finished. Errors: Internal with what the GPU reports.
  absl::Status Synchronize() const;

  // Returns messages of operators for the user, once each: for example, that a kernel had to stand in for a library's.
  std::vector<std::string> TakeNotes() const;
  // Adds a message. It has no effect on the CPU, where nothing stands in for anything.
  void Note(const std::string& text) const;

 private:
  Device device_ = Device::kCpu;
  bool dry_ = false;
  std::shared_ptr<const cuda::Context> context_;
  WorkRecorder* recorder_ = nullptr;
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_STREAM_H_
