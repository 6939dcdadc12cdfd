// The functions about captures that other files of this folder need.
#ifndef ISTHMUS_TESTS_CUDA_ON_CPU_STREAM_H_
#define ISTHMUS_TESTS_CUDA_ON_CPU_STREAM_H_

#include <cuda_runtime.h>

namespace isthmus::cuda_on_cpu {

// Serves calls that a thread may not make while it captures: it returns an error, and the capture is spoilt.
cudaError_t ForbiddenInCapture();

// Copies the present contents to the host. The copy arrives when the host waits for the stream, or for an event behind
// it.
void HoldBack(cudaStream_t stream, void* to, const void* from, size_t bytes);

}  // namespace isthmus::cuda_on_cpu

#endif  // ISTHMUS_TESTS_CUDA_ON_CPU_STREAM_H_
