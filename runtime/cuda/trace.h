// Ranges of NVTX. trace.cc implements them; in a build without CUDA, absent.cc does.
#ifndef ISTHMUS_RUNTIME_CUDA_TRACE_H_
#define ISTHMUS_RUNTIME_CUDA_TRACE_H_

#include <cstdint>

namespace isthmus::cuda {

// Opens a range "name index", or "name" where the index is negative. Ranges nest.
void PushRange(const char* name, int64_t index = -1);
void PopRange();

}  // namespace isthmus::cuda

#endif  // ISTHMUS_RUNTIME_CUDA_TRACE_H_
