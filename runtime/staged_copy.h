// Tensors on their way from a stream's device to the host, which takes them when it has time. The device goes on
// meanwhile.
#ifndef ISTHMUS_RUNTIME_STAGED_COPY_H_
#define ISTHMUS_RUNTIME_STAGED_COPY_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <memory>
#include <vector>

#include "runtime/host_buffer.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

namespace cuda {
class Event;  // runtime/cuda/event.h
}

class StagedCopy {
 public:
  StagedCopy();
  ~StagedCopy();

  // Starts to copy contiguous tensors on the stream's device, in the order of the stream: later work may write to them.
  // Copies that were started before and not waited for are lost. Errors: ResourceExhausted.
  absl::Status Start(absl::Span<const Tensor> tensors, const Stream& stream);
  // Returns the copies in host memory, in the same order; they last until the next Start.
  absl::StatusOr<absl::Span<const Tensor>> Wait() const;

 private:
  std::vector<HostBuffer> buffers_;
  std::vector<Tensor> copies_;
  std::unique_ptr<cuda::Event> passed_;  // only of a GPU
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_STAGED_COPY_H_
