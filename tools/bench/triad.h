// The rate of memory: bytes per second of a[i] = b[i] + s c[i] (McCalpin's STREAM). On a CPU a store to uncached memory
// brings a read along, which is not counted.
#ifndef ISTHMUS_TOOLS_BENCH_TRIAD_H_
#define ISTHMUS_TOOLS_BENCH_TRIAD_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>

#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace isthmus {

// Returns the best of several rates on fp32 arrays of `bytes` each, on the stream's device with as many threads as
// kernels use.
absl::StatusOr<double> MeasureTriad(int64_t bytes, Stream& stream);

namespace cuda {

// The arrays are fp32, contiguous, a multiple of 4 elements, aligned to 16 bytes. triad.cu implements this; in a build
// without CUDA, triad_absent.cc does.
absl::Status Triad(const Tensor& a, const Tensor& b, const Tensor& c, float scale, const Stream& stream);

}  // namespace cuda
}  // namespace isthmus

#endif  // ISTHMUS_TOOLS_BENCH_TRIAD_H_
