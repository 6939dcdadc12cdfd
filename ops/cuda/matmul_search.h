// Trials of a product's candidates on the device.
#ifndef ISTHMUS_OPS_CUDA_MATMUL_SEARCH_H_
#define ISTHMUS_OPS_CUDA_MATMUL_SEARCH_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <functional>

#include "runtime/tensor.h"

namespace isthmus::cuda {

struct Context;

// Returns the seconds that the work started by `run` takes on the stream. They are the shortest of a few times, after a
// warm-up. The call waits for the stream.
absl::StatusOr<double> SecondsOnStream(const std::function<absl::Status()>& run, const Context& context);

// A copy of a tensor on the device, which restores its values after trials that write to it. It waits for the stream.
class SavedTensor {
 public:
  explicit SavedTensor(const Context& context) : context_(context) {}
  ~SavedTensor();
  SavedTensor(const SavedTensor&) = delete;
  SavedTensor& operator=(const SavedTensor&) = delete;

  // Errors: ResourceExhausted if there is no room for the copy.
  absl::Status Save(const Tensor& tensor);
  absl::Status Restore();

 private:
  const Context& context_;
  Tensor tensor_;
  void* copy_ = nullptr;
};

}  // namespace isthmus::cuda

#endif  // ISTHMUS_OPS_CUDA_MATMUL_SEARCH_H_
