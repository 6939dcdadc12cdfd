// What other files of this folder need to know of captures.
#ifndef ISTHMUS_TESTS_CUDA_ON_CPU_STREAM_H_
#define ISTHMUS_TESTS_CUDA_ON_CPU_STREAM_H_

#include <cuda_runtime.h>

namespace isthmus::cuda_on_cpu {

// For calls that a thread may not make while it captures: an error, and the capture is spoilt.
cudaError_t ForbiddenInCapture();

// A copy to the host of what is there now: it arrives when the host waits for the stream, or for an event behind it.
void HoldBack(cudaStream_t stream, void* to, const void* from, size_t bytes);

}  // namespace isthmus::cuda_on_cpu

#endif  // ISTHMUS_TESTS_CUDA_ON_CPU_STREAM_H_
