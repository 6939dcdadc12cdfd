// Work that is recorded once and then started as a whole, as often as wanted: a CUDA graph. The host then gives the
// device one piece of work where there were hundreds, which matters where kernels are short.
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
  // Calls `work` and records what it gives to the stream instead of running it. Recorded are addresses and numbers, not
  // what lies at the addresses: a later start reads what is there then, and repeats every number as it was. What `work`
  // does on the host happens now, and never again. It must not wait for the stream, allocate device memory, or leave
  // other streams that it has drawn in unjoined; libraries must have prepared what they need, so run it once before.
  //
  // Errors: those of `work`; Internal when something can't be recorded; Unimplemented on the CPU. In each case the
  // stream is as before, and nothing has run.
  static absl::StatusOr<std::unique_ptr<CapturedWork>> Capture(const Stream& stream,
                                                               const std::function<absl::Status()>& work);
  ~CapturedWork();
  CapturedWork(const CapturedWork&) = delete;
  CapturedWork& operator=(const CapturedWork&) = delete;

  // Starts all of it on the stream that it was captured from.
  absl::Status Start() const;

 private:
  explicit CapturedWork(std::unique_ptr<cuda::Graph> graph);

  std::unique_ptr<cuda::Graph> graph_;
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_CAPTURED_WORK_H_
