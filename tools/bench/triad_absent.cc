// The stand-in for a build without CUDA.
#include "tools/bench/triad.h"

namespace isthmus::cuda {

absl::Status Triad(const Tensor&, const Tensor&, const Tensor&, float, const Stream&) {
  return absl::FailedPreconditionError("this program was built without CUDA; build it with `cmake --preset cuda`");
}

}  // namespace isthmus::cuda
