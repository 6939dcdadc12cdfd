// How an operator finds its implementation.
#ifndef ISTHMUS_OPS_OPERATOR_H_
#define ISTHMUS_OPS_OPERATOR_H_

#include <absl/status/status.h>

#include "runtime/backends.h"
#include "runtime/stream.h"

namespace isthmus {

// Runs an operator on its stream's device, once its arguments have been checked: Dispatch<cpu::Rope, cuda::Rope>(args,
// stream). This is the one place that chooses an implementation; an implementation may call others of its own device.
// In a build without CUDA the compiler drops that branch, so that nothing of ops/cuda is needed. Errors: those of the
// implementation.
template <auto kOnCpu, auto kOnCuda, typename Args>
absl::Status Dispatch(const Args& args, Stream& stream) {
  if constexpr (kHasCuda) {
    if (stream.device() == Device::kCuda) return kOnCuda(args, stream.cuda());
  }
  return kOnCpu(args);
}

}  // namespace isthmus

#endif  // ISTHMUS_OPS_OPERATOR_H_
