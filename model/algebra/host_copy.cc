#include "model/algebra/host_copy.h"

#include "ops/elementwise.h"
#include "runtime/device.h"
#include "runtime/status.h"

namespace isthmus {

absl::StatusOr<Matrix> HostCopy(const Tensor& tensor, const Stream& stream) {
  if (tensor.dtype == DType::kFloat64) {
    Matrix matrix(tensor.rows, tensor.columns);
    ISTHMUS_RETURN_IF_ERROR(CopyToHost(tensor, TensorOf(matrix), stream));
    return matrix;
  }
  // The host's own memory needs no second copy. Copying a matrix of gigabytes would hold up a step.
  if (stream.device() == Device::kCpu && !stream.dry()) return Widened(tensor);
  std::vector<char> bytes(static_cast<size_t>(tensor.bytes()));
  const Tensor copy(bytes.data(), tensor.dtype, tensor.rows, tensor.columns);
  ISTHMUS_RETURN_IF_ERROR(CopyToHost(tensor, copy, stream));
  return Widened(copy);
}

absl::StatusOr<Matrix> Widened(const Tensor& tensor) {
  Matrix matrix(tensor.rows, tensor.columns);
  Stream host;
  ISTHMUS_RETURN_IF_ERROR(Cast({.x = tensor, .y = TensorOf(matrix)}, host));
  return matrix;
}

absl::Status CopyToTensor(const Matrix& matrix, const Tensor& tensor, const Stream& stream) {
  Matrix source = matrix;
  if (tensor.dtype == DType::kFloat64) return CopyFromHost(TensorOf(source), tensor, stream);
  std::vector<float> narrow(static_cast<size_t>(tensor.size()));
  const Tensor copy(narrow.data(), DType::kFloat32, tensor.rows, tensor.columns);
  Stream host;
  ISTHMUS_RETURN_IF_ERROR(Cast({.x = TensorOf(source), .y = copy}, host));
  return CopyFromHost(copy, tensor, stream);
}

}  // namespace isthmus
