// Numbers of any floating type on any device, as fp64 on the host.
#ifndef ISTHMUS_MODEL_MEASURE_HOST_COPY_H_
#define ISTHMUS_MODEL_MEASURE_HOST_COPY_H_

#include <absl/status/statusor.h>

#include "model/measure/matrix.h"
#include "runtime/stream.h"

namespace isthmus {

// `tensor` is contiguous. Waits for the stream.
absl::StatusOr<Matrix> HostCopy(const Tensor& tensor, const Stream& stream);
// The same of a tensor in host memory.
absl::StatusOr<Matrix> Widened(const Tensor& tensor);

// The other way, to fp32 or fp64.
absl::Status CopyToTensor(const Matrix& matrix, const Tensor& tensor, const Stream& stream);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_MEASURE_HOST_COPY_H_
