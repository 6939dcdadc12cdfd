// The measured rate of a large matrix product. Utilisation on a CPU is reported against it (DESIGN section 7), and
// benchmarks compare products with it.
#ifndef ISTHMUS_OPS_MATMUL_PEAK_H_
#define ISTHMUS_OPS_MATMUL_PEAK_H_

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstdint>

#include "runtime/dtype.h"
#include "runtime/stream.h"

namespace isthmus {

// The size fills the device: a GPU needs more work at once than a core.
constexpr int64_t MatmulPeakSize(Device device, DType dtype) {
  if (device == Device::kCuda) return 8192;
  return dtype == DType::kFloat64 ? 256 : 1024;  // fp64 products on the CPU are for comparisons, and slow
}

// The best floating-point operations per second of products of [size, size] matrices of `dtype` (fp32 | bf16 | fp64) on
// the stream's device. A CPU uses this rank's threads. One product does not count; then products are tried for about
// `budget`. The matrices hold random numbers: on zeros a GPU draws less power and clocks higher. Other ranks of the
// node should measure at the same time, because they share its caches and power. Meanwhile it holds 3 size² elements of
// `dtype` and size² of fp32. Errors: ResourceExhausted when there is no room, InvalidArgument for another dtype.
absl::StatusOr<double> MeasureMatmulPeak(DType dtype, absl::Duration budget, Stream& stream, int64_t size);
inline absl::StatusOr<double> MeasureMatmulPeak(DType dtype, absl::Duration budget, Stream& stream) {
  return MeasureMatmulPeak(dtype, budget, stream, MatmulPeakSize(stream.device(), dtype));
}

}  // namespace isthmus

#endif  // ISTHMUS_OPS_MATMUL_PEAK_H_
