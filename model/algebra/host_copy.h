// Copies numbers of any floating type on any device to the host, as fp64.
#ifndef ISTHMUS_MODEL_ALGEBRA_HOST_COPY_H_
#define ISTHMUS_MODEL_ALGEBRA_HOST_COPY_H_

#include <absl/status/statusor.h>

#include "model/algebra/matrix.h"
#include "runtime/stream.h"

namespace isthmus {

// `tensor` must be contiguous. Waits for the stream.
absl::StatusOr<Matrix> HostCopy(const Tensor& tensor, const Stream& stream);
// Does the same for a tensor in host memory.
absl::StatusOr<Matrix> Widened(const Tensor& tensor);

// Copies the other way, to fp32 or fp64.
absl::Status CopyToTensor(const Matrix& matrix, const Tensor& tensor, const Stream& stream);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_ALGEBRA_HOST_COPY_H_
