// CUDA's errors as statuses.
#ifndef ISTHMUS_RUNTIME_CUDA_ERROR_H_
#define ISTHMUS_RUNTIME_CUDA_ERROR_H_

#include <absl/status/status.h>
#include <cuda_runtime.h>

namespace isthmus::cuda {

// Returns OK, or Internal with the call's name and CUDA's name and text of the error.
absl::Status Check(cudaError_t error, const char* call);

}  // namespace isthmus::cuda

#endif  // ISTHMUS_RUNTIME_CUDA_ERROR_H_
