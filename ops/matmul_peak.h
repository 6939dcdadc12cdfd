// The rate of a large matrix product, measured: what utilisation on a CPU is reported against (DESIGN section 7).
#ifndef ISTHMUS_OPS_MATMUL_PEAK_H_
#define ISTHMUS_OPS_MATMUL_PEAK_H_

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include "runtime/dtype.h"
#include "runtime/stream.h"

namespace isthmus {

// The best floating-point operations per second of products of [1024, 1024] matrices of `dtype` on this rank's threads,
// tried again for about `budget`. Other ranks of the node should measure at the same time: they share its caches and
// power.
absl::StatusOr<double> MeasureMatmulPeak(DType dtype, absl::Duration budget, Stream& stream);

}  // namespace isthmus

#endif  // ISTHMUS_OPS_MATMUL_PEAK_H_
