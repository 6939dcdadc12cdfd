// Work that is recorded once and then started as a whole, as often as wanted: a CUDA graph. The host then gives the
// device one piece of work instead of hundreds, which matters for short kernels.
#ifndef ISTHMUS_RUNTIME_CAPTURED_WORK_H_
#define ISTHMUS_RUNTIME_CAPTURED_WORK_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <functional>
#include <memory>

#include "runtime/stream.h"

namespace isthmus {

namespace cuda {
class Graph;  // runtime/cuda/graph.h
}

class CapturedWork {
 public:
  // Calls `work` and records what it gives to the stream instead of running it. The record holds addresses and numbers,
  // not the contents of the addresses. A later start reads the contents of that time, and repeats every number as it
  // was. The host part of `work` runs now, and never again. `work` must not wait for the stream or allocate device
  // memory. It must join all other streams that it has drawn in. Libraries must have prepared what they need, so run
  // `work` once before.
  //
  // Errors: those of `work`; Internal when something can't be recorded; Unimplemented on the CPU. In each case the
  // stream is as before, and nothing has run.
  static absl::StatusOr<std::unique_ptr<CapturedWork>> Capture(const Stream& stream,
                                                               const std::function<absl::Status()>& work);
  ~CapturedWork();
  CapturedWork(const CapturedWork&) = delete;
  CapturedWork& operator=(const CapturedWork&) = delete;

  // Starts all of it on the stream from which it was captured.
  absl::Status Start() const;

 private:
  explicit CapturedWork(std::unique_ptr<cuda::Graph> graph);

  std::unique_ptr<cuda::Graph> graph_;
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_CAPTURED_WORK_H_
