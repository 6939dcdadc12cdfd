// The measured rate of a pass over memory, which a plan expects of operators that memory limits.
#ifndef ISTHMUS_OPS_MEMORY_RATE_H_
#define ISTHMUS_OPS_MEMORY_RATE_H_

#include <absl/status/statusor.h>

#include "runtime/stream.h"

namespace isthmus {

// Bytes per second, read and written, of Add over two fp32 tensors of 64 MiB: the best of some calls, on this rank's
// threads. With a cache larger than that it is the cache's rate.
absl::StatusOr<double> MeasureMemoryRate(Stream& stream);

}  // namespace isthmus

#endif  // ISTHMUS_OPS_MEMORY_RATE_H_
