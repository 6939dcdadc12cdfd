// Versions of the libraries that the CUDA backend uses: 10000 · major + 100 · minor + patch, or 0 in a build without
// them.
#ifndef ISTHMUS_OPS_CUDA_LIBRARY_VERSIONS_H_
#define ISTHMUS_OPS_CUDA_LIBRARY_VERSIONS_H_

#include <cstdint>

namespace isthmus::cuda {

int64_t CublasLtVersionNumber();
int64_t CudnnVersionNumber();

}  // namespace isthmus::cuda

#endif  // ISTHMUS_OPS_CUDA_LIBRARY_VERSIONS_H_
